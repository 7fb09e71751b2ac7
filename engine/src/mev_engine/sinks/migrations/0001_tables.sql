-- What the engine finds, one row an opportunity and block. Amounts are raw token units or wei.
CREATE TABLE opportunities (
    id              text        NOT NULL,  -- 128 bits of SHA-256 over chain, block and path
    chain           text        NOT NULL,
    chain_id        bigint      NOT NULL,
    strategy_type   text        NOT NULL,
    status          text        NOT NULL DEFAULT 'detected' CHECK (status IN ('detected', 'orphaned')),
    block_number    bigint      NOT NULL,
    block_hash      text        NOT NULL,
    created_at      timestamptz NOT NULL,  -- the block's own timestamp
    detected_at     timestamptz NOT NULL,  -- our clock
    path_tokens     text[]      NOT NULL,
    path_symbols    text[]      NOT NULL,
    pools           text[]      NOT NULL,
    amounts         numeric[]   NOT NULL,  -- the input, then each hop's output
    amount_in       numeric     NOT NULL,
    amount_out      numeric     NOT NULL,
    gross_profit    numeric     NOT NULL,  -- raw units of the base token
    gas_units       bigint      NOT NULL,
    gas_price       numeric     NOT NULL,  -- wei
    gas_cost        numeric     NOT NULL,  -- wei
    net_profit      numeric     NOT NULL,  -- wei
    profit_estimate numeric     NOT NULL,  -- net profit in whole native coins
    rank            integer     NOT NULL,
    conflicts_with  text,
    PRIMARY KEY (created_at, id)
) PARTITION BY RANGE (created_at);

-- No row is ever refused for its month: what no partition takes waits here until
-- create_monthly_partitions makes its month and moves it. (A replayed or test chain may be years away.)
CREATE TABLE opportunities_default PARTITION OF opportunities DEFAULT;

CREATE INDEX opportunities_profit_idx
    ON opportunities (profit_estimate DESC, created_at DESC) WHERE status = 'detected';
CREATE INDEX opportunities_strategy_profit_idx
    ON opportunities (strategy_type, profit_estimate DESC, created_at DESC) WHERE status = 'detected';
-- marking a block's rows as orphaned, and "what was found in this block"
CREATE INDEX opportunities_block_idx ON opportunities (chain_id, block_number DESC);

-- Prices and liquidity by time; a hypertable where TimescaleDB is installed (see 0003).
CREATE TABLE market_data (
    time          timestamptz      NOT NULL,
    chain_id      bigint           NOT NULL,
    block_number  bigint           NOT NULL,
    token_address text             NOT NULL,
    dex_address   text             NOT NULL,
    pool_address  text             NOT NULL,
    price         double precision NOT NULL,
    liquidity     numeric          NOT NULL
);
CREATE INDEX market_data_time_token_idx ON market_data (time DESC, token_address, dex_address);

-- What was done about an opportunity. No foreign key: its row may be in a partition long dropped.
CREATE TABLE executions (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    opportunity_id   text        NOT NULL,
    chain_id         bigint      NOT NULL,
    mode             text        NOT NULL CHECK (mode IN ('paper', 'live')),
    status           text        NOT NULL CHECK (status IN ('pending', 'success', 'failed')),
    created_at       timestamptz NOT NULL DEFAULT now(),
    finished_at      timestamptz,
    transaction_hash text,
    profit           numeric,
    detail           text
);
CREATE INDEX executions_opportunity_idx ON executions (opportunity_id);
CREATE INDEX executions_created_idx ON executions (created_at DESC);

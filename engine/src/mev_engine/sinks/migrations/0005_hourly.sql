-- What was found by hour, for dashboards: full hours from a small table, the present one from the rows themselves.
CREATE TABLE opportunities_hourly (
    hour            timestamptz NOT NULL,
    chain           text        NOT NULL,
    strategy_type   text        NOT NULL,
    found           bigint      NOT NULL,
    profit_estimate numeric     NOT NULL,  -- whole native coins, all together
    best            numeric     NOT NULL,
    PRIMARY KEY (hour, chain, strategy_type)
);

-- Works out the hours since the last one that has an entry, and the two before it again: a block may have been
-- orphaned since. Returns how many entries were written.
CREATE FUNCTION refresh_opportunities_hourly() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    since   timestamptz := coalesce((SELECT max(hour) - interval '2 hours' FROM opportunities_hourly), '-infinity');
    until   timestamptz := date_trunc('hour', now());
    written integer;
BEGIN
    DELETE FROM opportunities_hourly WHERE hour >= since;
    INSERT INTO opportunities_hourly
    SELECT date_trunc('hour', created_at), chain, strategy_type, count(*), sum(profit_estimate), max(profit_estimate)
      FROM opportunities
     WHERE status = 'detected' AND created_at >= since AND created_at < until
     GROUP BY 1, 2, 3;
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END $$;

CREATE VIEW opportunities_by_hour AS
WITH edge AS (SELECT coalesce(max(hour) + interval '1 hour', '-infinity') AS at FROM opportunities_hourly)
SELECT * FROM opportunities_hourly
UNION ALL
SELECT date_trunc('hour', created_at), chain, strategy_type, count(*), sum(profit_estimate), max(profit_estimate)
  FROM opportunities
 WHERE status = 'detected' AND created_at >= (SELECT at FROM edge)
 GROUP BY 1, 2, 3;

-- market_data becomes a hypertable as soon as the database has TimescaleDB, now or later.
-- Returns whether it changed something.
CREATE FUNCTION ensure_market_data_hypertable() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        RETURN false;
    END IF;
    IF EXISTS (SELECT FROM timescaledb_information.hypertables WHERE hypertable_name = 'market_data') THEN
        RETURN false;
    END IF;
    PERFORM create_hypertable('market_data', 'time',
                              chunk_time_interval => interval '1 day', migrate_data => true);
    RETURN true;
END $$;

-- Drops market data older than `keep`, by what the server has: TimescaleDB's community edition gets a
-- policy once and looks after itself; its Apache edition gets drop_chunks at each call; plain
-- PostgreSQL gets DELETE. Returns how many policies, chunks or rows changed.
CREATE FUNCTION apply_market_data_retention(keep interval DEFAULT interval '30 days')
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    changed bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        DELETE FROM market_data WHERE time < now() - keep;
        GET DIAGNOSTICS changed = ROW_COUNT;
        RETURN changed;
    END IF;
    IF current_setting('timescaledb.license', true) = 'timescale' THEN
        IF EXISTS (SELECT FROM timescaledb_information.jobs
                    WHERE hypertable_name = 'market_data' AND proc_name = 'policy_retention') THEN
            RETURN 0;
        END IF;
        PERFORM add_retention_policy('market_data', keep);
        RETURN 1;
    END IF;
    SELECT count(*) INTO changed FROM drop_chunks('market_data', older_than => keep);
    RETURN changed;
END $$;

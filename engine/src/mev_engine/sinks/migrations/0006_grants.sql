-- What each role of the server may do here, as far as the server has it. Repeated after each migration, so that new
-- tables are covered. The engine adds rows and marks them as orphaned; the API reads; both see what was migrated.
CREATE FUNCTION grant_platform_roles() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF to_regrole('mev_engine') IS NOT NULL THEN
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO mev_engine;
        GRANT INSERT ON opportunities, market_data, executions TO mev_engine;
        GRANT UPDATE (status) ON opportunities TO mev_engine;
        GRANT UPDATE (status, finished_at, transaction_hash, profit, detail) ON executions TO mev_engine;
    END IF;
    IF to_regrole('mev_api') IS NOT NULL THEN
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO mev_api;
    END IF;
END $$;

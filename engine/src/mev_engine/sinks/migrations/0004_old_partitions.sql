-- Detaches the monthly partitions that end at or before a day, and returns how many. Their rows stay, each month in
-- its own table, until somebody drops or archives it. (DETACH ... CONCURRENTLY is refused beside a default
-- partition; what this waits for, it waits for at most lock_timeout.)
CREATE FUNCTION detach_monthly_partitions(table_name text, before date)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    partition regclass;
    month     date;
    detached  integer := 0;
BEGIN
    FOR partition IN SELECT inhrelid FROM pg_inherits WHERE inhparent = table_name::regclass LOOP
        month := to_date(substring(partition::text FROM '_y(\d{4}m\d{2})$'), 'YYYY"m"MM');
        IF month + interval '1 month' <= before THEN  -- the default partition has no month
            EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', table_name::regclass, partition);
            detached := detached + 1;
        END IF;
    END LOOP;
    RETURN detached;
END $$;

-- Monthly partitions [first day of from_date's month .. to_date's month] of a table that is
-- partitioned by range of one timestamptz column and has a default partition <table>_default.
-- Returns how many were made. Safe to repeat; rows that wait in the default partition are moved.
--   SELECT create_monthly_partitions('opportunities', '2024-01-01', '2025-12-31');
CREATE FUNCTION create_monthly_partitions(table_name text, from_date date, to_date date)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    parent    regclass := table_name::regclass;
    holder    regclass := (table_name || '_default')::regclass;
    key       name;
    month     date := date_trunc('month', from_date)::date;
    first     timestamptz;
    next      timestamptz;
    partition text;
    made      integer := 0;
BEGIN
    IF to_date < from_date THEN
        RAISE EXCEPTION 'to_date % is before from_date %', to_date, from_date;
    END IF;
    SELECT a.attname INTO STRICT key
      FROM pg_partitioned_table p JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
     WHERE p.partrelid = parent;
    WHILE month <= to_date LOOP
        partition := format('%s_y%sm%s', table_name, to_char(month, 'YYYY'), to_char(month, 'MM'));
        IF to_regclass(partition) IS NULL THEN
            -- months are UTC months whatever the session's time zone is
            first := month::timestamp AT TIME ZONE 'UTC';
            next  := (month + interval '1 month')::timestamp AT TIME ZONE 'UTC';
            -- writers wait here, until commit, so that no row slips into the default partition meanwhile
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', holder);
            EXECUTE format('CREATE TABLE %I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition, parent);
            EXECUTE format('WITH moved AS (DELETE FROM %s WHERE %I >= %L AND %I < %L RETURNING *) '
                           'INSERT INTO %I SELECT * FROM moved', holder, key, first, key, next, partition);
            EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           parent, partition, first, next);
            -- can only be set on the partitions, not on the parent
            EXECUTE format('ALTER TABLE %I SET (autovacuum_vacuum_scale_factor = 0.1, '
                           'autovacuum_analyze_scale_factor = 0.05)', partition);
            made := made + 1;
        END IF;
        month := (month + interval '1 month')::date;
    END LOOP;
    RETURN made;
END $$;

-- Months that have rows in the default partition, so that their partitions can be made.
CREATE FUNCTION months_in_default(table_name text)
RETURNS SETOF date LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT DISTINCT date_trunc(''month'', created_at AT TIME ZONE ''UTC'')::date FROM %I',
        table_name || '_default');
END $$;

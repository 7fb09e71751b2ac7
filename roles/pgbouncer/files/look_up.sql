CREATE SCHEMA IF NOT EXISTS pgbouncer;
REVOKE ALL ON SCHEMA pgbouncer FROM PUBLIC;
GRANT USAGE ON SCHEMA pgbouncer TO pgbouncer;
CREATE OR REPLACE FUNCTION pgbouncer.look_up(wanted text, OUT name text, OUT verifier text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT rolname::text, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END
    FROM pg_authid
    WHERE rolname = wanted AND rolcanlogin AND NOT rolsuper AND NOT rolreplication AND rolname <> 'rewind'
$$;
REVOKE ALL ON FUNCTION pgbouncer.look_up(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgbouncer.look_up(text) TO pgbouncer;

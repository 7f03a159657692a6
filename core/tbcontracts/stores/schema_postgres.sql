-- The books of many scopes; see schema_sqlite.sql, whose tables these are. Rows that change at every
-- command leave room in their page, so that their new version fits beside the old one.

CREATE SCHEMA IF NOT EXISTS {schema};

CREATE TABLE {schema}.version (version INTEGER NOT NULL);

CREATE TABLE {schema}.scope (
    id              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    version         BIGINT NOT NULL,
    seq             BIGINT NOT NULL,
    now_s           DOUBLE PRECISION NOT NULL,
    pool            BIGINT NOT NULL,
    total           BIGINT NOT NULL,
    closed          SMALLINT NOT NULL,
    unit            TEXT
) WITH (fillfactor = 50);

CREATE TABLE {schema}.account (
    scope_id        BIGINT NOT NULL REFERENCES {schema}.scope (id),
    agent           TEXT NOT NULL,
    version         BIGINT NOT NULL,
    contract_json   TEXT NOT NULL,
    tracked         SMALLINT NOT NULL,
    place           BIGINT NOT NULL,
    finished        SMALLINT NOT NULL,
    allocated       BIGINT NOT NULL,
    consumed        BIGINT NOT NULL,
    held            BIGINT NOT NULL,
    unmeasured      BIGINT NOT NULL,
    denials         BIGINT NOT NULL,
    expired_holds   BIGINT NOT NULL,
    owed            BIGINT NOT NULL,
    confidence      DOUBLE PRECISION,
    buckets_json    TEXT NOT NULL,
    denial_json     TEXT,
    PRIMARY KEY (scope_id, agent)
) WITH (fillfactor = 50);

CREATE INDEX ON {schema}.account (scope_id, version);

CREATE TABLE {schema}.hold (
    scope_id        BIGINT NOT NULL REFERENCES {schema}.scope (id),
    hold_id         TEXT NOT NULL,
    version         BIGINT NOT NULL,
    agent           TEXT NOT NULL,
    amount          BIGINT NOT NULL,
    charged         BIGINT NOT NULL,
    cost            BIGINT NOT NULL,
    unpriced        BIGINT NOT NULL,
    status          TEXT NOT NULL,
    enforcement     TEXT NOT NULL,
    expires_at_s    DOUBLE PRECISION NOT NULL,
    outcome_json    TEXT,
    PRIMARY KEY (scope_id, hold_id)
) WITH (fillfactor = 70);

CREATE INDEX ON {schema}.hold (scope_id, version);
CREATE INDEX ON {schema}.hold (scope_id) WHERE status = 'open';

CREATE TABLE {schema}.used_key (
    scope_id        BIGINT NOT NULL REFERENCES {schema}.scope (id),
    key             TEXT NOT NULL,
    command_json    TEXT NOT NULL,
    reply_json      TEXT NOT NULL,
    until_s         DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (scope_id, key)
);

CREATE INDEX ON {schema}.used_key (scope_id, until_s);

CREATE TABLE {schema}.journal (
    scope_id        BIGINT NOT NULL REFERENCES {schema}.scope (id),
    seq             BIGINT NOT NULL,
    at_s            DOUBLE PRECISION NOT NULL,
    kind            TEXT NOT NULL,
    agent           TEXT,
    amount          BIGINT NOT NULL,
    hold_id         TEXT,
    moves_json      TEXT NOT NULL,
    allocated       BIGINT NOT NULL,
    consumed        BIGINT NOT NULL,
    held            BIGINT NOT NULL,
    pool            BIGINT NOT NULL,
    facts_json      TEXT NOT NULL,
    PRIMARY KEY (scope_id, seq)
);

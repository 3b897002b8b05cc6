"""Calls Lockgate's SQL API as a service in Python would: in its own transactions, with the rights of lockgate_sender.

usage: enqueue.py URL; prints what it got as one line of JSON. Needs psycopg.
"""

import datetime
import json
import sys

import psycopg
from psycopg.types.json import Jsonb

EMAIL = "select lockgate.enqueue_email(%s, %s, %s, locale => %s, user_id => %s, idempotency_key => %s)"
COMMAND = "select lockgate.enqueue_command('sms', %s, key => %s, headers => %s, not_before => %s)"


def one(connection, statement, *values):
    return str(connection.execute(statement, values).fetchone()[0])


def refused(connection, statement, *values):
    try:
        with connection.transaction():
            connection.execute(statement, values)
    except psycopg.errors.InvalidParameterValue as error:
        return error.diag.message_primary
    raise AssertionError(f"{statement} was taken")


def main():
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        connection.execute("set session authorization lockgate_sender")
        email = ("ada@example.org", "welcome", Jsonb({"name": "Ada \u00fc"}), "pt-BR", 7)
        found = {}
        with connection.transaction():
            found["email"] = one(connection, EMAIL, *email, "signup-7")
        with connection.transaction():
            found["again"] = one(connection, EMAIL, *email, "signup-7")
        with connection.transaction(force_rollback=True):
            found["rolled_back"] = one(connection, EMAIL, *email, "never")
        later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
        with connection.transaction():
            payload = json.dumps({"to": "+49", "n": 1})
            found["sms"] = one(connection, COMMAND, payload, "k", Jsonb({"x": "y"}), later)
            found["run"] = one(connection, "select lockgate.start_run('reports', %s, idempotency_key => 'r')", Jsonb({}))
        found["refused"] = [
            refused(connection, EMAIL, "nobody", "welcome", Jsonb({}), "en", None, None),
            refused(connection, COMMAND, "{", None, None, None),
        ]
        try:
            connection.execute("select * from lockgate.outbox")
            raise AssertionError("a sender reads the outbox")
        except psycopg.errors.InsufficientPrivilege as error:
            found["denied"] = error.sqlstate
        print(json.dumps(found))


main()

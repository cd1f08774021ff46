"""Answers of 09_secrets."""

from __future__ import annotations

import base64
import math
import re
import secrets
import subprocess
import time
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg import sql

from flow360 import clients
from flow360.checks import c09_secrets
from flow360.clients.secrets import Denied, Expired, Missing
from flow360.delivery import vaults
from flow360.errors import FlowError, ServiceError
from flow360.settings import settings
from tests.answers import near_miss, right


def reset(exercise: str) -> None:
    """The invoices and their readers as a lab begins with them; no role of the auditors in Vault."""
    if exercise in ("short_lease", ""):
        clients.vault().secrets.database.delete_role("lab-auditor")
        c09_secrets.prepare()


# --- narrow_policy ----------------------------------------------------------------------------------------------------

POLICY = """
path "secret/data/lab/market/*"       { capabilities = ["read"] }
path "secret/data/lab/market/inbox/*" { capabilities = ["read", "create", "update"] }
path "secret/metadata/lab/market/"    { capabilities = ["list"] }
path "secret/metadata/lab/market/*"   { capabilities = ["list"] }
path "secret/data/lab/market/bank/*"     { capabilities = ["deny"] }
path "secret/metadata/lab/market/bank/*" { capabilities = ["deny"] }
"""


@right("narrow_policy", solved=True)
def one_line_for_each_sentence():
    return POLICY


@right("narrow_policy")
def in_json():
    return """{"path": {
        "secret/data/lab/market/*": {"capabilities": ["read"]},
        "secret/data/lab/market/inbox/*": {"capabilities": ["create", "read", "update", "patch"]},
        "secret/metadata/lab/market/*": {"capabilities": ["list"]},
        "secret/data/lab/market/bank/*": {"capabilities": ["deny"]},
        "secret/metadata/lab/market/bank/*": {"capabilities": ["deny"]}}}"""


@right("narrow_policy")
def no_capability_in_place_of_deny():
    return POLICY.replace('["deny"]', "[]").replace('"secret/metadata/lab/market/" ', '"secret/metadata/lab/market" ')


@near_miss("narrow_policy", says="reading lab/market/")
def the_path_of_the_python_call():
    return POLICY.replace("secret/data/", "secret/").replace("secret/metadata/", "secret/")


@near_miss("narrow_policy", says="reading lab/marketing/")
def no_slash_before_the_star():
    return POLICY.replace("data/lab/market/*", "data/lab/market*")


@near_miss("narrow_policy", says="reading lab/market/banknotes")
def the_bank_without_its_slash():
    return POLICY.replace("bank/*", "bank*")


@near_miss("narrow_policy", says="reading lab/market/bank/")
def the_bank_forgotten():
    return POLICY.replace('path "secret/data/lab/market/bank/*"     { capabilities = ["deny"] }\n', "")


@near_miss("narrow_policy", says="listing lab/market/bank/")
def its_names_forgotten():
    return POLICY.replace('path "secret/metadata/lab/market/bank/*" { capabilities = ["deny"] }\n', "")


@near_miss("narrow_policy", says="reading lab/market/")
def one_level_only():
    return POLICY.replace("data/lab/market/*", "data/lab/market/+")


@near_miss("narrow_policy", says="listing lab/market/")
def a_list_where_the_values_are():
    return POLICY.replace("metadata/lab/market/*", "data/lab/market/x").replace(
        "metadata/lab/market/ ", "data/lab/market/ "
    )


@near_miss("narrow_policy", says="writing lab/market/inbox/new")
def only_over_old_ones():
    return POLICY.replace('"create", ', "")


@near_miss("narrow_policy", says="reading lab/market/inbox/")
def the_inbox_cannot_be_read():
    return POLICY.replace('"read", "create"', '"create"')


@near_miss("narrow_policy", says="metadata")
def all_about_the_names():
    return POLICY.replace('["list"]', '["list", "read"]')


@near_miss("narrow_policy", says="changing what is known about")
def they_may_set_the_number_of_versions():
    return POLICY.replace('["list"]', '["list", "update"]')


@near_miss("narrow_policy", says="making metadata")
def a_name_without_a_value():
    return POLICY.replace('["list"]', '["list", "create"]')


@near_miss("narrow_policy", says="listing lab/market/inbox/")
def names_one_folder_deep():
    return POLICY.replace("metadata/lab/market/*", "metadata/lab/market/+/")


@near_miss("narrow_policy", says="removing")
def they_may_tidy_up():
    return POLICY.replace('["list"]', '["list", "delete"]')


@near_miss("narrow_policy", says="secret/undelete/lab/market/")
def what_they_deleted_comes_back():
    return POLICY + 'path "secret/undelete/lab/market/inbox/*" { capabilities = ["update"] }'


@near_miss("narrow_policy", says="sys/mounts")
def they_may_see_what_there_is():
    return POLICY + 'path "sys/mounts" { capabilities = ["read"] }'


@near_miss("narrow_policy", says="does not take it")
def a_capability_that_there_is_not():
    return POLICY.replace('"update"', '"write-over"')


# --- patient_reader ---------------------------------------------------------------------------------------------------


def sign_in(role_id, secret_id):
    return clients.vault_at(settings().vault_url, role_id, secret_id)


def value(client, path):
    return client.secrets.kv.v2.read_secret(path)["data"]["data"]


@right("patient_reader", solved=True)
def kept_in_a_closure():
    def make_reader(role_id, secret_id):
        kept = []

        def read(path):
            if not kept:
                kept.append(sign_in(role_id, secret_id))
            try:
                return value(kept[0], path)
            except Expired:
                kept[0] = sign_in(role_id, secret_id)
                return value(kept[0], path)

        return read

    return make_reader


@right("patient_reader")
def an_object_that_signs_in_at_once():
    class Reader:
        def __init__(self, role_id, secret_id):
            self.who = role_id, secret_id
            self.client = sign_in(*self.who)

        def __call__(self, path):
            try:
                return value(self.client, path)
            except Expired:
                self.client = sign_in(*self.who)
            return value(self.client, path)

    return Reader


@right("patient_reader")
def vaults_whole_answer():
    def make_reader(role_id, secret_id):
        state = {"client": sign_in(role_id, secret_id)}

        def read(path):
            try:
                return state["client"].secrets.kv.v2.read_secret_version(path)
            except ServiceError as error:
                if not isinstance(error, Expired):
                    raise
            state["client"] = sign_in(role_id, secret_id)
            return state["client"].secrets.kv.v2.read_secret_version(path)

        return read

    return make_reader


def a_reader(read):
    """make_reader of a function that gets a client holder, the credentials and the path."""

    def make_reader(role_id, secret_id):
        held = {"client": sign_in(role_id, secret_id)}
        return lambda path: read(held, (role_id, secret_id), path)

    return make_reader


@near_miss("patient_reader", says="sign-ins for two reads")
def signs_in_each_time():
    return a_reader(lambda _held, who, path: value(sign_in(*who), path))


@near_miss("patient_reader", says="revoked long before its time")
def by_the_tokens_own_clock():
    """Signs in again when the time is up that Vault had named, and cannot believe that it is over before."""

    def read(held, who, path):
        if time.time() >= held.get("until", math.inf):
            held.pop("until")
            held["client"] = sign_in(*who)
        if "until" not in held:
            held["until"] = time.time() + held["client"].auth.token.lookup_self()["data"]["ttl"]
        return value(held["client"], path)

    return a_reader(read)


@near_miss("patient_reader", says="for the second time")
def once_and_never_again():
    def read(held, who, path):
        try:
            return value(held["client"], path)
        except Expired:
            if "again" in held:
                raise
            held |= {"client": sign_in(*who), "again": True}
            return value(held["client"], path)

    return a_reader(read)


@near_miss("patient_reader", says="does one help?")
def again_whatever_was_said():
    def read(held, who, path):
        try:
            return value(held["client"], path)
        except FlowError:
            held["client"] = sign_in(*who)
            return value(held["client"], path)

    return a_reader(read)


@near_miss("patient_reader", says="an old one?")
def remembers_what_it_read():
    def read(held, who, path):
        if path not in held:
            try:
                held[path] = value(held["client"], path)
            except Expired:
                held["client"] = sign_in(*who)
                held[path] = value(held["client"], path)
        return held[path]

    return a_reader(read)


@near_miss("patient_reader", says="expected Denied to come through, found an answer")
def falls_back_to_what_it_knew():
    def read(held, who, path):
        try:
            held[path] = value(held["client"], path)
        except Expired:
            held["client"] = sign_in(*who)
            held[path] = value(held["client"], path)
        except Denied:
            if path not in held:
                raise
        return held[path]

    return a_reader(read)


@near_miss("patient_reader", says="that was removed: expected Missing to come through, found an answer")
def remembers_what_is_gone():
    def read(held, who, path):
        try:
            held[path] = value(held["client"], path)
        except Expired:
            held["client"] = sign_in(*who)
            held[path] = value(held["client"], path)
        except Missing:
            if path not in held:
                raise
        return held[path]

    return a_reader(read)


@near_miss("patient_reader", says="times")
def knocks_until_it_is_let_in():
    def read(held, who, path):
        for _ in range(20):
            try:
                return value(held["client"], path)
            except Expired:
                try:
                    held["client"] = sign_in(*who)
                except Denied:
                    continue
        raise Denied("not let in")

    return a_reader(read)


@near_miss("patient_reader", says="policies of this token do not allow it")
def the_engine_twice():
    return a_reader(lambda held, _who, path: value(held["client"], f"secret/{path}"))


@near_miss("patient_reader", says="vault does not know")
def exchanged():
    return lambda role_id, secret_id: kept_in_a_closure()(secret_id, role_id)


@near_miss("patient_reader", says="found NoneType")
def no_function_comes_back():
    return lambda role_id, secret_id: None


# --- short_lease ------------------------------------------------------------------------------------------------------

MAKE = "create role \"{{name}}\" login password '{{password}}' valid until '{{expiration}}' in role lab_auditor"
END = "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{{name}}'"
DROP = 'drop role if exists "{{name}}"'


def lender(creation=(MAKE,), revocation=(END, DROP), default_ttl=300, max_ttl=900, **more):
    clients.vault().secrets.database.create_role(
        name="lab-auditor",
        db_name="warehouse",
        creation_statements=list(creation),
        revocation_statements=list(revocation),
        default_ttl=default_ttl,
        max_ttl=max_ttl,
        **more,
    )
    return "lab-auditor"


@right("short_lease", solved=True)
def made_ended_dropped():
    return lender()


@right("short_lease")
def a_member_by_grant_and_minutes_as_text():
    plain = MAKE.replace(" in role lab_auditor", "")
    return lender((plain, 'grant lab_auditor to "{{name}}"'), (END + "; " + DROP + ";",), "5m", "15m")


@right("short_lease")
def shut_out_first():
    shut = 'alter role "{{name}}" nologin'
    return lender((MAKE.upper().replace("{{NAME}}", "{{name}}").replace("{{PASSWORD}}", "{{password}}").replace(
        "{{EXPIRATION}}", "{{expiration}}").replace("LAB_AUDITOR", "lab_auditor"),), (shut, END, DROP))  # fmt: skip


@near_miss("short_lease", says="does not know it")
def never_made():
    return "lab-auditor"


@near_miss("short_lease", says="an open session of the user still gets answers")
def only_dropped():
    return lender(revocation=(DROP,))


@near_miss("short_lease", says="still among PostgreSQL's roles")
def only_shut_out():
    return lender(revocation=(END, 'alter role "{{name}}" nologin'))


@near_miss("short_lease", says="thrown out with it")
def all_auditors_end():
    return lender(revocation=(END.replace("= '{{name}}'", "like 'v-approle-lab-%'"), DROP))


@near_miss("short_lease", says="knows no end of its user")
def no_end_in_postgresql():
    return lender((MAKE.replace(" valid until '{{expiration}}'", ""),))


@near_miss("short_lease", says="should they not end together")
def an_end_of_its_own():
    return lender((MAKE.replace("{{expiration}}", "2030-01-01"),))


@near_miss("short_lease", says="cannot sign in")
def one_password_for_all():
    return lender((MAKE.replace("{{password}}", "open-sesame"),))


@near_miss("short_lease", says="cannot sign in")
def no_login():
    return lender((MAKE.replace(" login", ""),))


@near_miss("short_lease", says="what its user is a member of")
def the_role_of_the_loads():
    return lender((MAKE.replace("lab_auditor", "pipeline"),))


@near_miss("short_lease", says="may make others members")
def a_member_that_may_bring_others():
    return lender((MAKE.removesuffix(" in role lab_auditor"), 'grant lab_auditor to "{{name}}" with admin option'))


@near_miss("short_lease", says="what its user is a member of")
def a_member_of_the_loads_too():
    return lender((MAKE + ", pipeline",))


@near_miss("short_lease", says="max_ttl")
def renewed_for_an_hour():
    return lender(max_ttl=3600)


@near_miss("short_lease", says="default_ttl")
def an_hour_at_once():
    return lender(default_ttl=900)


@near_miss("short_lease", says="cannot make a user")
def the_name_without_quotes():
    return lender((MAKE.replace('"', ""),))


# --- no_downtime ------------------------------------------------------------------------------------------------------


def change(db, user, password):
    db.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(user), sql.Literal(password)))


def rotating(*, who=None, order="commit first", word=lambda: secrets.token_urlsafe(24), keep=lambda secret: secret):
    """rotate with one of its parts exchanged."""

    def rotate(db, kv, path):
        secret = kv.read_secret(path)["data"]["data"]
        other = next(user for user in secret["users"] if user != secret["user"])
        other, password = (who or (lambda _secret, user: user))(secret, other), word()
        new = {**keep(secret), "user": other, "password": password}
        if order == "secret first":
            kv.create_or_update_secret(path, new)
        change(db, other, password)
        if order == "commit first":
            db.commit()
        if order != "secret first":
            kv.create_or_update_secret(path, new)
        db.commit()

    return rotate


@right("no_downtime", solved=True)
def postgresql_first():
    return rotating()


@right("no_downtime")
def by_patch():
    def rotate(db, kv, path):
        secret = kv.read_secret(path)["data"]["data"]
        users = list(secret["users"])
        users.remove(secret["user"])
        password = secrets.token_hex(16)
        with db.transaction():
            change(db, users[0], password)
        kv.patch(path=path, secret={"user": users[0], "password": password})

    return rotate


@right("no_downtime")
def with_a_verifier_of_its_own():
    def rotate(db, kv, path):
        read = kv.read_secret_version(path)["data"]
        secret, password = dict(read["data"]), secrets.token_urlsafe(18)
        first, second = secret["users"]
        secret["user"] = second if secret["user"] == first else first
        verifier = db.pgconn.encrypt_password(password.encode(), secret["user"].encode(), b"scram-sha-256").decode()
        change(db, secret["user"], verifier)
        db.commit()
        kv.create_or_update_secret(path, secret | {"password": password}, cas=read["metadata"]["version"])

    return rotate


@near_miss("no_downtime", says="and the secret changed all the same")
def the_secret_first():
    return rotating(order="secret first")


@near_miss("no_downtime", says="at the moment at which the secret is written")
def committed_afterwards():
    return rotating(order="commit last")


@near_miss("no_downtime", says="after a rotation that failed halfway")
def the_same_user():
    return rotating(who=lambda secret, _other: secret["user"])


@near_miss("no_downtime", says="a password was used twice")
def a_password_that_is_known():
    return rotating(word=lambda: "correct-horse-battery")


@near_miss("no_downtime", says="begin alike")
def numbered_passwords():
    numbers = iter(range(100, 999))
    return rotating(word=lambda: f"market-report-{next(numbers)}")


@near_miss("no_downtime", says="fewer than 16")
def a_short_password():
    return rotating(word=lambda: secrets.token_hex(4))


@near_miss("no_downtime", says="what else stands in the secret")
def the_rest_forgotten():
    return rotating(keep=lambda secret: {"users": secret["users"], "host": secret["host"]})


@near_miss("no_downtime", says="as if all were well")
def an_error_that_nobody_hears():
    good = rotating()

    def rotate(db, kv, path):
        try:
            good(db, kv, path)
        except (FlowError, psycopg.Error):
            db.rollback()

    return rotate


@near_miss("no_downtime", says="they take turns")
def always_the_second():
    return rotating(who=lambda secret, _other: secret["users"][1])


@near_miss("no_downtime", says="password of another user")
def all_users_at_once():
    good = rotating()

    def rotate(db, kv, path):
        good(db, kv, path)
        for (user,) in db.execute("select rolname from pg_roles where rolname like 'lab\\_Report%%c'").fetchall():
            change(db, user, "x")
        db.commit()

    return rotate


@near_miss("no_downtime", says="found SyntaxError")
def the_name_between_quotes():
    def rotate(db, kv, path):
        secret = kv.read_secret(path)["data"]["data"]
        other = next(user for user in secret["users"] if user != secret["user"])
        password = secrets.token_urlsafe(24)
        db.execute(f"alter role \"{other}\" password '{password}'")
        db.commit()
        kv.create_or_update_secret(path, {**secret, "user": other, "password": password})

    return rotate


# --- who_had_it -------------------------------------------------------------------------------------------------------


def hash_of(vault, text):
    return vault.sys.calculate_hash("file", text)["data"]["hash"]


def leaves(node):
    for inner in node.values() if isinstance(node, dict) else node:
        if isinstance(inner, dict | list):
            yield from leaves(inner)
        else:
            yield inner


def in_time(one, moment):
    return datetime.fromisoformat(one["time"]) < moment


def given(one):
    return ((one.get("response") or {}).get("data")) or {}


@right("who_had_it", solved=True)
def walks_through_what_was_said():
    def suspects(vault, records, value, moment):
        hashed = hash_of(vault, value)
        return {
            vaults.who(one)
            for one in records
            if in_time(one, moment) and hashed in [*leaves(given(one)), *leaves(one["request"].get("data") or {})]
        }

    return suspects


@right("who_had_it")
def looks_into_the_text_of_a_record():
    def suspects(vault, records, value, moment):
        hashed, names = hash_of(vault, value), []
        for one in records:
            if hashed in str(one) and in_time(one, moment):
                names.append(one["auth"]["metadata"]["role_name"])
        return names

    return suspects


@right("who_had_it")
def as_a_column():
    def suspects(vault, records, value, moment):
        import pandas as pd

        frame = pd.DataFrame({"one": records})
        frame["time"] = pd.to_datetime([one["time"] for one in records], utc=True, format="ISO8601")
        hashed = hash_of(vault, value)
        hit = frame["one"].map(lambda one: hashed in repr(one))
        return frame[hit & (frame["time"] < moment)]["one"].map(vaults.who).drop_duplicates()

    return suspects


@near_miss("who_had_it", says="is missing")
def looks_for_the_value_itself():
    return lambda vault, records, value, moment: {vaults.who(one) for one in records if value in str(one)}


@near_miss("who_had_it", says="wanted to write the value and was refused")
def those_who_were_answered():
    def suspects(vault, records, value, moment):
        hashed = hash_of(vault, value)
        return {
            vaults.who(one)
            for one in records
            if one["type"] == "response" and not one.get("error") and in_time(one, moment) and hashed in str(one)
        }

    return suspects


@near_miss("who_had_it", says="at the moment, not before")
def whenever_it_was():
    def suspects(vault, records, value, moment):
        hashed = hash_of(vault, value)
        return {vaults.who(one) for one in records if one["type"] == "response" and hashed in str(one)}

    return suspects


@near_miss("who_had_it", says="at the moment, not before")
def every_zone_is_utc():
    def suspects(vault, records, value, moment):
        hashed, until = hash_of(vault, value), f"{moment:%Y-%m-%dT%H:%M:%S.%f}"
        return {vaults.who(one) for one in records if one["time"] < until and hashed in str(one)}

    return suspects


@near_miss("who_had_it", says="deeper inside is missing")
def one_level_deep():
    def suspects(vault, records, value, moment):
        hashed = hash_of(vault, value)
        return {
            vaults.who(one)
            for one in records
            if one["type"] == "response"
            and in_time(one, moment)
            and any(
                hashed in (side.get("data") or {}).values() for side in (given(one), one["request"].get("data") or {})
            )
        }

    return suspects


@near_miss("who_had_it", says="3 of 6 are")
def readers_only():
    def suspects(vault, records, value, moment):
        hashed = hash_of(vault, value)
        return {vaults.who(one) for one in records if in_time(one, moment) and hashed in leaves(given(one))}

    return suspects


@near_miss("who_had_it", says="is missing")
def writers_only():
    def suspects(vault, records, value, moment):
        hashed = hash_of(vault, value)
        return {
            vaults.who(one)
            for one in records
            if in_time(one, moment) and hashed in leaves(one["request"].get("data") or {})
        }

    return suspects


@near_miss("who_had_it", says="another value")
def everybody_who_was_at_the_paths():
    def suspects(vault, records, value, moment):
        hashed = hash_of(vault, value)
        answers = [one for one in records if one["type"] == "response" and in_time(one, moment)]
        paths = {one["request"]["path"] for one in answers if hashed in str(one)}
        return {vaults.who(one) for one in answers if one["request"]["path"] in paths}

    return suspects


@near_miss("who_had_it", says="the policies of this token do not allow it")
def another_log():
    def suspects(vault, records, value, moment):
        hashed = vault.sys.calculate_hash("audit", value)["data"]["hash"]
        return {vaults.who(one) for one in records if hashed in str(one)}

    return suspects


@near_miss("who_had_it", says="found str")
def one_name_as_a_text():
    return lambda vault, records, value, moment: "notebook"


# --- leaked -----------------------------------------------------------------------------------------------------------


def git(repository, *words, given=None):
    return subprocess.run(["git", *words], cwd=repository, input=given, capture_output=True, check=True).stdout


def named(values, everything):
    return {
        name
        for name, value in values.items()
        if value.encode() in everything or base64.b64encode(value.encode()) in everything
    }


def objects(repository, *which):
    listed = git(repository, "rev-list", "--objects", *which).split(b"\n")
    return b"\n".join(line.split()[0] for line in listed if line)


@right("leaked", solved=True)
def each_object():
    def leaks(repository, values):
        return named(values, git(repository, "cat-file", "--batch", given=objects(repository, "--all")))

    return leaks


@right("leaked")
def out_of_a_fast_export():
    return lambda repository, values: sorted(named(values, git(repository, "fast-export", "--all")))


@right("leaked")
def what_a_log_of_everything_prints():
    def leaks(repository, values):
        log = git(repository, "log", "--all", "-p", "-m", "--text", "--format=%B")
        return list(named(values, log + git(repository, "for-each-ref", "--format=%(contents)")))

    return leaks


@near_miss("leaked", says="is missing")
def the_files_that_are_there():
    def leaks(repository, values):
        files = [path for path in Path(repository).rglob("*") if path.is_file() and ".git" not in path.parts]
        return named(values, b"".join(path.read_bytes() for path in files))

    return leaks


@near_miss("leaked", says="another branch is missing")
def this_branch_only():
    return lambda repository, values: named(
        values,
        git(repository, "log", "-p", "-m", "--text", "--format=%B")
        + git(repository, "for-each-ref", "--format=%(contents)"),
    )


@near_miss("leaked", says="binary file is missing")
def what_git_calls_text():
    def leaks(repository, values):
        log = git(repository, "log", "--all", "-p", "-m", "--format=%B")
        return named(values, log + git(repository, "for-each-ref", "--format=%(contents)"))

    return leaks


@near_miss("leaked", says="from neither side is missing")
def merges_left_out():
    def leaks(repository, values):
        log = git(repository, "log", "--all", "-p", "--text", "--format=%B")
        return named(values, log + git(repository, "for-each-ref", "--format=%(contents)"))

    return leaks


@near_miss("leaked", says="a commit's message is missing")
def no_messages():
    def leaks(repository, values):
        log = git(repository, "log", "--all", "-p", "-m", "--text", "--format=%H")
        return named(values, log + git(repository, "for-each-ref", "--format=%(contents:body)"))

    return leaks


@near_miss("leaked", says="message of a tag is missing")
def no_words_of_tags():
    return lambda repository, values: named(
        values, git(repository, "log", "--all", "-p", "-m", "--text", "--format=%B")
    )


@near_miss("leaked", says="Base64 is missing")
def only_as_it_is():
    def leaks(repository, values):
        everything = git(repository, "fast-export", "--all")
        return {name for name, value in values.items() if value.encode() in everything}

    return leaks


@near_miss("leaked", says="no branch and no tag leads")
def whatever_git_still_has():
    def leaks(repository, values):
        return named(values, git(repository, "cat-file", "--batch", "--batch-all-objects"))

    return leaks


@near_miss("leaked", says="in other letters")
def capital_or_small():
    def leaks(repository, values):
        everything = git(repository, "fast-export", "--all")
        return {
            name
            for name, value in values.items()
            if value.lower().encode() in everything.lower() or base64.b64encode(value.encode()) in everything
        }

    return leaks


@near_miss("leaked", says="mean something in a pattern is missing")
def the_value_as_a_pattern():
    def leaks(repository, values):
        everything = git(repository, "fast-export", "--all").decode("latin-1")
        packed = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
        return {name for name in values if re.search(values[name], everything) or packed[name] in everything}

    return leaks


@near_miss("leaked", says="is not as it was before")
def a_branch_switched():
    def leaks(repository, values):
        git(repository, "switch", "--quiet", "side")
        return named(values, git(repository, "fast-export", "--all"))

    return leaks

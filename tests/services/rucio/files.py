"""The files that Rucio reads: of the server, of its daemons, of its clients."""

from __future__ import annotations

from pathlib import Path

from . import installation


def server_files(directory: Path, database: str, password: str, cache_port: int | None, *, broker: str = "") -> Path:
    """Write `rucio.cfg` and `alembic.ini` into `directory`; returns the former.

    `database` is the URL of SQLAlchemy, `broker` the section `[messaging-hermes]` for a daemon that needs it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    alembic = directory / "alembic.ini"
    repository = installation.packages() / "rucio" / "db" / "sqla" / "migrate_repo"
    alembic.write_text(ALEMBIC.format(repository=repository, database=database))
    configuration = directory / "rucio.cfg"
    configuration.write_text(
        SERVER.format(
            database=database,
            alembic=alembic,
            password=password,
            # Without a cache each look-up of an RSE asks the database again, file by file.
            cache=f"127.0.0.1:{cache_port}" if cache_port is not None else "",
            broker=broker,
        )
    )
    return configuration


# Not even `multi_vo = False` may be in it: the bootstrap takes the word for true, and names the first account
# super_root. The password of the bootstrap is the plain one.
SERVER = """\
[common]
loglevel = INFO

[database]
default = {database}

[alembic]
cfg = {alembic}

[bootstrap]
userpass_identity = root
userpass_pwd = {password}
userpass_email = root@localhost

[cache]
url = {cache}

[policy]
permission = generic
schema = generic
lfn2pfn_algorithm_default = hash

# One row for each message; with e-mail, which is the default beside it, there would be two.
[hermes]
services_list = activemq

{broker}
"""

# Hermes also asks for the port of TLS, which it then does not use.
BROKER = """\
[messaging-hermes]
brokers = 127.0.0.1
use_ssl = False
port = {port}
nonssl_port = {port}
username = {user}
password = {passcode}
destination = {destination}
"""

CLIENT = """\
[client]
rucio_host = {url}
auth_host = {url}
auth_type = userpass
account = {account}
username = {account}
password = {password}
auth_token_file_path = {token}
"""

# Rucio's migrations configure their logging from here and fail without it.
ALEMBIC = """\
[alembic]
script_location = {repository}
sqlalchemy.url = {database}

[loggers]
keys = root

[handlers]
keys = console

[formatters]
keys = plain

[logger_root]
level = WARN
handlers = console

[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain

[formatter_plain]
format = %(message)s
"""

"""What each process of a stack is told, and what its clients have to know."""

from __future__ import annotations

from pipelines.stack.postgres import database_url, postgres_url
from pipelines.stack.settings import EVERYWHERE, MLFLOW_AUTH, SERVICES
from pipelines.stack.state import Stack, passwords, write_private


def client_environment(stack: Stack) -> dict[str, str]:
    """The variables with which a command or a flow uses this stack; passwords are among them."""
    secrets = passwords(stack)
    return {
        "PREFECT_API_URL": f"{stack.address('prefect')}/api",
        "PREFECT_API_AUTH_STRING": secrets["PREFECT_API_AUTH_STRING"],
        "MLFLOW_TRACKING_URI": stack.address("mlflow"),
        "MLFLOW_TRACKING_USERNAME": secrets["MLFLOW_TRACKING_USERNAME"],
        "MLFLOW_TRACKING_PASSWORD": secrets["MLFLOW_TRACKING_PASSWORD"],
    }


def command(stack: Stack, service: str) -> tuple[str, ...]:
    """What a service runs on this machine, as after ``python -m``."""
    said = SERVICES[service].command
    if service not in stack.ports:
        return said
    return (*said, "--host", "127.0.0.1", "--port", str(stack.ports[service]))


def environment(stack: Stack, service: str) -> dict[str, str]:
    """The variables of a service, beside those of whoever starts it.

    Passwords and the URLs of databases go this way, since everyone sees a command line.
    """
    secrets, server = passwords(stack), postgres_url(stack.folder, stack.database)
    shared = {**EVERYWHERE, **SERVICES[service].environment}
    if service == "mlflow":
        auth = stack.folder / "mlflow-auth.ini"
        write_private(auth, auth_file(database_url(server, "psycopg", "mlflow_auth")))
        return shared | {
            "MLFLOW_BACKEND_STORE_URI": database_url(server, "psycopg", "mlflow"),
            "MLFLOW_ARTIFACTS_DESTINATION": stack.artifacts or str(stack.folder / "artifacts"),
            "MLFLOW_AUTH_CONFIG_PATH": str(auth),
            "MLFLOW_AUTH_ADMIN_PASSWORD": secrets["MLFLOW_TRACKING_PASSWORD"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets["MLFLOW_FLASK_SERVER_SECRET_KEY"],
        }
    # a folder of its own keeps the profiles and settings of the user out
    prefect = {"PREFECT_HOME": str(stack.folder / service)}
    if service == "prefect":
        auth_string = secrets["PREFECT_API_AUTH_STRING"]
        return (
            shared
            | prefect
            | {
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": database_url(
                    server, "asyncpg", "prefect"
                ),
                "PREFECT_SERVER_API_AUTH_STRING": auth_string,
                "PREFECT_API_AUTH_STRING": auth_string,  # its own services are clients too
                "PREFECT_API_URL": f"{stack.address('prefect')}/api",
            }
        )
    return shared | prefect | client_environment(stack)


def auth_file(database: str) -> str:
    """The file that MLFLOW_AUTH_CONFIG_PATH names.

    Examples
    --------
    >>> print(auth_file("postgresql://db/mlflow_auth?host=%2Ftmp").splitlines()[-1])
    database_uri = postgresql://db/mlflow_auth?host=%%2Ftmp
    """
    # the reader takes % for the start of a reference
    content = {**MLFLOW_AUTH, "database_uri": database.replace("%", "%%")}
    lines = (f"{name} = {value}" for name, value in content.items())
    return "\n".join(["[mlflow]", *lines]) + "\n"

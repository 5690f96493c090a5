"""Airflow 3: rebuild and publish the dataset every night.

"Try later" (exit code 75) and a stopped build are tried again; every other code fails at once and wants a person.
"""

import subprocess
from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

CHECKOUT = "/opt/tutti"
COMMAND = [
    ".venv/bin/python", "-m", "pipelines.build", "--dataset", "ultimate", "--wait", "3600",
    "--publish", "/srv/datasets/ultimate",
]  # fmt: skip
TRY_LATER = 75
STOPPED = (130, 143)


@dag(
    dag_id="tutti_ultimate",
    schedule="17 3 * * *",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["tutti"],
)
def tutti_ultimate():
    """One task: the build plans, resumes and publishes by itself."""

    @task(retries=5, retry_delay=timedelta(minutes=30))
    def build() -> str:
        """The summary of the build, as JSON."""
        done = subprocess.run(COMMAND, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode in (TRY_LATER, *STOPPED) or done.returncode < 0:  # below 0: killed by a signal
            raise RuntimeError(f"try later: exit code {done.returncode}")
        if done.returncode:
            raise AirflowFailException(f"the build failed with exit code {done.returncode}: its log has the reason")
        return done.stdout.splitlines()[-1]

    build()


tutti_ultimate()

"""Submit a list of prompts, wait for all, save the pictures. The same command again goes on where it stopped.

python examples/submit_batch.py prompts.txt pictures/ --url http://127.0.0.1:8000

What was submitted is remembered in pictures/jobs.jsonl. Delete that file to make everything anew.
"""

import argparse
import hashlib
import json
import sys
import uuid
from contextlib import suppress
from pathlib import Path

from cli.client import DEFAULT_URL, FluxImageClient, FluxImageError, JobNotSucceeded
from cli.retrying import RetryPolicy

PATIENCE_SECONDS = 3600.0
"""How long the server may be away, or its queue full."""


class Batch:
    """Which job each prompt became. A prompt's key is known before it is sent, so that a crash doubles no job.

    The server knows a key for 24 hours; what was written down here needs no key any more.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._jobs: dict[str, str] = {}
        self._id = ""
        for line in file.read_text().splitlines() if file.exists() else ():
            with suppress(ValueError):  # a line that was cut off by a crash: its key is sent once more
                self._take(json.loads(line))
        if not self._id:
            self._append({"batch": uuid.uuid4().hex})

    def key(self, number: int, prompt: str) -> str:
        """Return the same key whenever line ``number`` holds this prompt."""
        return hashlib.sha256(f"{self._id} {number} {prompt}".encode()).hexdigest()

    def find(self, key: str) -> str | None:
        """Return the id of the job that was submitted with this key."""
        return self._jobs.get(key)

    def remember(self, key: str, job_id: str) -> None:
        """Write down what a key became."""
        self._append({"key": key, "job": job_id})

    def _append(self, entry: dict[str, str]) -> None:
        with self._file.open("a") as file:
            file.write(f"\n{json.dumps(entry)}")
        self._take(entry)

    def _take(self, entry: dict[str, str]) -> None:
        self._id = entry.get("batch", self._id)
        if "key" in entry:
            self._jobs[entry["key"]] = entry["job"]


def submit_all(client: FluxImageClient, batch: Batch, prompts: list[str]) -> dict[str, str]:
    """Return the prompt of each job, in order; only what was not submitted before is submitted."""
    jobs = {}
    for number, prompt in enumerate(prompts):
        key = batch.key(number, prompt)
        if (job_id := batch.find(key)) is None:
            job_id = client.generate(prompt, idempotency_key=key).id
            batch.remember(key, job_id)
        jobs[job_id] = prompt
    return jobs


def save(client: FluxImageClient, job_id: str, prompt: str, path: Path) -> bool:
    """Wait for a job and save its picture, unless that was done before; return whether there is one."""
    try:
        if not path.exists():
            client.save(client.wait(job_id).images[0], path)
    except JobNotSucceeded as error:
        print(f"{error}  ({prompt})")
        return False
    print(path, prompt)
    return True


def main() -> int:
    """Return 0 when every prompt has its picture, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", type=Path, help="text file, one prompt per line")
    parser.add_argument("output", type=Path)
    parser.add_argument("--url", default=DEFAULT_URL)
    arguments = parser.parse_args()
    prompts = [line for line in arguments.prompts.read_text().splitlines() if line.strip()]
    arguments.output.mkdir(parents=True, exist_ok=True)
    batch = Batch(arguments.output / "jobs.jsonl")
    with FluxImageClient(arguments.url, retries=RetryPolicy(total_seconds=PATIENCE_SECONDS)) as client:
        try:
            jobs = submit_all(client, batch, prompts)
            saved = [save(client, job, prompt, arguments.output / f"{job}.png") for job, prompt in jobs.items()]
        except FluxImageError as error:
            print(f"{error}\nThe same command again goes on from here.", file=sys.stderr)
            return 1
    return 0 if all(saved) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Submit a list of prompts, wait for all, save the pictures.

python examples/submit_batch.py prompts.txt pictures/ --url http://127.0.0.1:8000
"""

import argparse
from pathlib import Path

from cli.client import DEFAULT_URL, FluxImageClient, JobNotSucceeded

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("prompts", type=Path, help="text file, one prompt per line")
parser.add_argument("output", type=Path)
parser.add_argument("--url", default=DEFAULT_URL)
arguments = parser.parse_args()

with FluxImageClient(arguments.url) as client:
    prompts = [line for line in arguments.prompts.read_text().splitlines() if line.strip()]
    jobs = [client.generate(prompt) for prompt in prompts]
    for job in jobs:
        try:
            finished = client.wait(job.id)
            print(client.save(finished.images[0], arguments.output / f"{job.id}.png"), job.params["prompt"])
        except JobNotSucceeded as error:
            print(f"{error}  ({job.params['prompt']})")

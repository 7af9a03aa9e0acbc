"""requirements.txt with the oldest versions that pyproject.toml allows."""

import re
import tomllib
from pathlib import Path

with open("pyproject.toml", "rb") as file:
    ranges = tomllib.load(file)["project"]["dependencies"]
floors = dict(line.split(">=") for line in ranges)
del floors["torch"]  # has no older build to test with


def oldest(pin):
    return f"{pin[1]}=={floors.get(pin[1], pin[2])}"


print(re.sub(r"^([\w-]+)==(\S+)", oldest, Path("requirements.txt").read_text(), flags=re.M), end="")

"""What environment.yml hands to pip, a line each; it must name the Python that runs this."""

import sys

import yaml

with open("environment.yml") as file:
    dependencies = yaml.safe_load(file)["dependencies"]
python = f"python={sys.version_info.major}.{sys.version_info.minor}"
assert python in dependencies, f"expected {python} in environment.yml, got {dependencies}"
for entry in dependencies:
    if isinstance(entry, dict):
        print("\n".join(entry["pip"]))

"""python -m training.report"""

from training.cli import run
from training.report import main

run(main)

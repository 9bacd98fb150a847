#!/bin/bash
#SBATCH --job-name=synpre
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=02:00:00
#SBATCH --output=cells-%a.log
# A task of the array computes the cell whose command is in its line of cells.txt:
#   synpre run EXPERIMENT.yaml --output_dir DIR --list > cells.txt
#   sbatch --array=1-$(wc -l < cells.txt) examples/slurm/cells.sh
# A cell on a GPU: add --gpus-per-task=1 above.
set -euo pipefail
command=$(sed -n "${SLURM_ARRAY_TASK_ID}p" "${CELLS:-cells.txt}")
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
bash -c "$command"

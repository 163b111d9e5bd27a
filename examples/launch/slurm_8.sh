#!/bin/bash
# One machine of 8 cards: sbatch examples/launch/slurm_8.sh xls_r_1b data.train.0.path=mls/german
#SBATCH --job-name=wav2vec2
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
source "$SLURM_SUBMIT_DIR/examples/launch/train.sh"

# What the jobs slurm_*.sh do: one task of srun per card, and the job into the queue again until the run is done.
# Submit from the folder of the repository; run.output must lie where all machines see it.
#
# 300 s before its time is over, SLURM sends SIGUSR1 to every task (#SBATCH --signal), and SIGTERM where it takes a machine
# away. A run that gets either finishes its update, saves and leaves with 138 (SIGUSR1) or 143 (SIGTERM). The same command
# goes on from there. A run that is done leaves with 0 and one that fails with 1: neither is started again.
#
# No torchrun between: its agent answers SIGTERM by ending the processes after 30 s, saved or not, and SIGUSR1 by dying.
set -u
export MASTER_ADDR="${MASTER_ADDR:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)}"
export MASTER_PORT="${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 20000))}"
export WORLD_SIZE="$SLURM_NTASKS"
export OMP_NUM_THREADS=1

# --wait: a task that ends takes the others with it, but leaves them time to end by themselves
srun --wait=120 bash -c '
  export RANK="$SLURM_PROCID" LOCAL_RANK="$SLURM_LOCALID" LOCAL_WORLD_SIZE="${SLURM_NTASKS_PER_NODE:-1}"
  exec wav2vec2 pretrain "$@"
' wav2vec2 "$@"
code=$?

case "$code" in
  138 | 143) scontrol requeue "$SLURM_JOB_ID" ;;
esac
exit "$code"

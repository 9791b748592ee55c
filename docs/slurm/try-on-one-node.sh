#!/bin/bash
# Debian's Slurm (apt-get install slurm-wlm munge) on this machine alone, for trying the scripts beside this one.
# As root: try-on-one-node.sh start, then sbatch as usual, then try-on-one-node.sh stop. It writes /etc/slurm/slurm.conf.
set -euo pipefail
case "${1:-}" in
start)
  install -d -o munge -g munge -m 755 /run/munge
  runuser -u munge -- /usr/sbin/munged
  install -d /var/spool/slurmctld /var/spool/slurmd
  cat > /etc/slurm/slurm.conf <<CONF
ClusterName=one
SlurmctldHost=$(hostname -s)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
# plugins that need no control groups: a container has none to give
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MaxArraySize=10000
NodeName=$(hostname -s) CPUs=$(nproc) RealMemory=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024 - 500)) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  slurmctld
  slurmd
  sleep 3
  sinfo
  ;;
stop)
  scontrol shutdown
  kill "$(cat /run/munge/munged.pid)"
  ;;
*)
  echo "usage: $0 start|stop" >&2
  exit 2
  ;;
esac

#!/bin/bash
# Process 1 of the guest: mounts what a program expects, runs one script, reports its status, powers off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Upper halves of AVX registers are not safe here on every host: see launch_kernel.py.
export GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-ERMS
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /mnt
mount -t tmpfs tmpfs /media
mkdir /media/out
mount -t hostfs -o "$SHARED" none /media/out   # SHARED comes from the kernel command line
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /var/tmp
chmod 1777 /tmp /var/tmp /dev/shm
. /media/out/environment

# The kernel loads filesystems and device-mapper targets by itself, from where the package was unpacked.
printf '#!/bin/sh\nexec /sbin/modprobe -d %s "$@"\n' "$MODULES" >/run/modprobe
chmod +x /run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe

exec >/media/out/log 2>&1
ip link set lo up
ip addr add "$GUESTIP/24" dev vec0
ip link set vec0 up
echo "guest: $(uname -sr)"
bash -eu "$SCRIPT" $ARGUMENTS
echo $? >/media/out/status
sync
echo o >/proc/sysrq-trigger
sleep 5

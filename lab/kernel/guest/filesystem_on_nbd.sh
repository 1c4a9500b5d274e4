# In the guest: FILESYSTEM EXPORT PORT CONNECTIONS. The kernel's own NBD client, a filesystem on it, made, used, trimmed, checked.
filesystem=$1 export=$2 port=$3 connections=$4 pass=$5
# Always disconnect: a guest that just powers off leaves the server a connection with nobody at the other end.
trap 'umount /mnt/v 2>/dev/null || true; nbd-client -d /dev/nbd0 >/dev/null 2>&1 || true' EXIT
/run/modprobe nbd
nbd-client "$HOSTIP" "$port" /dev/nbd0 -N "$export" -C "$connections" -timeout 30
echo "size=$(blockdev --getsize64 /dev/nbd0) block=$(cat /sys/block/nbd0/queue/logical_block_size) cache=$(cat /sys/block/nbd0/queue/write_cache) fua=$(cat /sys/block/nbd0/queue/fua)"
mkdir -p /mnt/v

check() {
    case $filesystem in
        ext4) e2fsck -f -n /dev/nbd0 ;;
        xfs) xfs_repair -n /dev/nbd0 ;;
    esac
}

if [ "$pass" = write ]; then
    [ "$(cat /sys/block/nbd0/queue/write_cache)" = "write back" ]
    mkfs -t "$filesystem" -q /dev/nbd0
    mount -t "$filesystem" /dev/nbd0 /mnt/v
    dd if=/dev/urandom of=/mnt/v/large bs=1M count=48 conv=fsync status=none
    dd if=/dev/urandom of=/mnt/v/gone bs=1M count=32 conv=fsync status=none
    dd if=/dev/urandom of=/mnt/v/synced bs=4k count=200 oflag=dsync status=none
    (cd /mnt/v && sha256sum large synced) >/media/out/checksums
    rm /mnt/v/gone
    sync
    fstrim -v /mnt/v
    umount /mnt/v
    check
else
    check
    mount -t "$filesystem" /dev/nbd0 /mnt/v
    (cd /mnt/v && sha256sum -c /media/out/checksums)
    umount /mnt/v
    blkdiscard -f /dev/nbd0
    cmp -n 1048576 /dev/nbd0 /dev/zero
fi

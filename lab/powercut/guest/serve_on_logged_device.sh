# In the guest: a server whose store lies on a device that logs every write, and a client that marks what was made durable.
# WHERE (device | file) and the two snippets `create` and `serve` come from the host; they use $STORE and $SOCKET.
sectors=$(blockdev --getsz /dev/ubda)
/run/modprobe dm-log-writes
dmsetup --noudevsync --noudevrules create cut --table "0 $sectors log-writes /dev/ubda /dev/ubdb"
dmsetup mknodes cut
[ -b /dev/mapper/cut ]
SOCKET=/tmp/nbd.sock
if [ "$WHERE" = file ]; then
    mkfs.ext4 -q /dev/mapper/cut
    mkdir /mnt/disk
    mount /dev/mapper/cut /mnt/disk
    STORE=/mnt/disk/store
else
    STORE=/dev/mapper/cut
fi
. /media/out/server.sh
create
[ "$WHERE" = device ] || sync
serve >/media/out/server.log 2>&1 &
server=$!
for _ in $(seq 300); do
    [ -S "$SOCKET" ] && break
    kill -0 $server
    sleep 0.1
done
/usr/bin/python3 /media/out/mark_what_is_durable.py "$SOCKET" "$EXPORT" /media/out/journal "$TRIM_PROMISE"
kill -9 $server
wait $server 2>/dev/null || true
[ "$WHERE" = device ] || umount /mnt/disk
dmsetup --noudevsync --noudevrules remove cut
sync

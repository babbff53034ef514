# $1: an empty directory; $2: what was restored; $3: 1 for root; then a command. It is in namespaces of its own.
set -eu
root=$1 data=$2 is_root=$3
shift 3
mount -t tmpfs -o mode=755,size=8m,nosuid,nodev none "$root"
mkdir "$root/etc" "$root/dev" "$root/proc" "$root/tmp" "$root/restored"
for name in usr bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$name" ]; then
        ln -s "$(readlink "/$name")" "$root/$name"
    elif [ -d "/$name" ]; then
        mkdir "$root/$name"
        mount --bind "/$name" "$root/$name"
        mount -o remount,bind,ro,nosuid,nodev "$root/$name"
    fi
done
for name in alternatives ld.so.cache passwd group nsswitch.conf; do
    if [ -e "/etc/$name" ]; then cp -RP "/etc/$name" "$root/etc/"; fi
done
for name in null zero urandom; do
    : >"$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mount -t proc -o nosuid,nodev,noexec none "$root/proc" 2>/dev/null || :
mount -t tmpfs -o mode=1777,size=64m,nosuid,nodev,noexec none "$root/tmp"
target=$root/restored
if [ ! -d "$data" ]; then
    target=$root/restored/data
    : >"$target"
fi
if [ "$is_root" = 1 ]; then chmod -R a+rX "$data"; fi
mount --bind "$data" "$target"
mount -o remount,bind,ro,nosuid,nodev "$target"
mount -o remount,ro "$root"
set -- --no-new-privs --bounding-set=-all --inh-caps=-all sh -c 'cd /restored && exec "$@"' sh "$@"
if [ "$is_root" = 1 ]; then set -- --reuid=65534 --regid=65534 --clear-groups "$@"; fi
cd /
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 chroot "$root" setpriv "$@"

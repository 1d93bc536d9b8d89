#!/bin/sh
# assemble.sh ROOT OUT: a disk image from a tree, for BIOS and UEFI, without a loop mount. GPT: boot code of BIOS, EFI system
# partition, root, last so that it can grow. By environment: KERNEL_ARGS; number, size in MiB and PARTUUID of the partitions
# (BIOS_PARTITION, BIOS_MIB, BIOS_PARTUUID and the like; the root has no size); ROOT_UUID and DISK_UUID.
set -eu
root=$1
out=$2
work=$(dirname "$out")
# "Linux root (x86-64)" of the discoverable partitions specification.
root_type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
root_mib=$(($(du -sk --apparent-size "$root" | cut -f1) * 115 / 100 / 1024 + 48))

kernel=$(find "$root/boot" -name 'vmlinuz-*' -printf '%f\n' | sort -V | tail -n 1)
release=${kernel#vmlinuz-}
mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<CFG
set timeout=0
search --no-floppy --fs-uuid --set=root $ROOT_UUID
linux /boot/vmlinuz-$release root=UUID=$ROOT_UUID ro $KERNEL_ARGS
initrd /boot/initrd.img-$release
boot
CFG

# GRUB 2.06 reads neither of these two features. The journal is added when the files are in: it makes filling slow.
mke2fs -q -t ext4 -U "$ROOT_UUID" -L root -m 1 -O ^metadata_csum_seed,^orphan_file,^has_journal \
  -E "lazy_itable_init=1,hash_seed=$ROOT_UUID" -d "$root" "$work/root.img" "${root_mib}M"
tune2fs -O has_journal "$work/root.img" >/dev/null

# Both GRUBs carry what they need to find the root file system, and read its grub.cfg.
cat >"$work/early.cfg" <<CFG
search --no-floppy --fs-uuid --set=root $ROOT_UUID
set prefix=(\$root)/boot/grub
configfile /boot/grub/grub.cfg
CFG
modules='part_gpt ext2 search search_fs_uuid linux normal configfile echo serial boot'
# shellcheck disable=SC2086 # a list of words
grub-mkimage -O x86_64-efi -o "$work/BOOTX64.EFI" -p /boot/grub -c "$work/early.cfg" $modules fat
# shellcheck disable=SC2086
grub-mkimage -O i386-pc -o "$work/core.img" -p /boot/grub -c "$work/early.cfg" $modules biosdisk
[ "$(wc -c <"$work/core.img")" -le $((BIOS_MIB * 1048576)) ]

truncate -s "${ESP_MIB}M" "$work/esp.img"
mkfs.vfat -n ESP "$work/esp.img" >/dev/null
mmd -i "$work/esp.img" ::/EFI ::/EFI/BOOT
mcopy -i "$work/esp.img" "$work/BOOTX64.EFI" ::/EFI/BOOT/BOOTX64.EFI

esp_at=$((1 + BIOS_MIB))
root_at=$((esp_at + ESP_MIB))
truncate -s $((root_at + root_mib + 1))M "$out"
sfdisk -q "$out" <<TABLE
label: gpt
label-id: $DISK_UUID
$BIOS_PARTITION: start=1MiB, size=${BIOS_MIB}MiB, type=21686148-6449-6E6F-744E-656564454649, name=bios, uuid=$BIOS_PARTUUID
$ESP_PARTITION: start=${esp_at}MiB, size=${ESP_MIB}MiB, type=U, name=esp, uuid=$ESP_PARTUUID
$ROOT_PARTITION: start=${root_at}MiB, size=${root_mib}MiB, type=$root_type, name=root, uuid=$ROOT_PARTUUID
TABLE
dd if="$work/esp.img" of="$out" bs=1M seek=$esp_at conv=notrunc,sparse status=none
dd if="$work/root.img" of="$out" bs=1M seek=$root_at conv=notrunc,sparse status=none

# GRUB's boot sector goes around the partition table (which begins at 440). It learns at 0x5c in which sector the core image
# begins, that one at 0x1f4 in which it goes on: 2048 and 2049, little-endian. The two NOPs let the BIOS's own drive number
# stand, as grub-bios-setup does for hard disks.
put() { dd of="$out" bs=1 seek="$(($1))" conv=notrunc status=none; }
dd if=/usr/lib/grub/i386-pc/boot.img of="$out" bs=440 count=1 conv=notrunc status=none
printf '\000\010\000\000\000\000\000\000' | put 0x5c
printf '\220\220' | put 0x66
dd if="$work/core.img" of="$out" bs=512 seek=2048 conv=notrunc status=none
printf '\001\010\000\000\000\000\000\000' | put 2048*512+0x1f4

#!/bin/sh
# Stands in for `rabbitmqctl set_vm_memory_high_watermark FRACTION`: a fraction near none raises an alarm, any other ends
# it. Our broker has no alarm that a client could set off, except by a full disk; so the volume of its data is filled.
# $DATA is that volume, $SAID what the broker says.
case "$1 $2" in
    "set_vm_memory_high_watermark 0.0001") ;;
    "set_vm_memory_high_watermark "*) exec rm -f "$DATA/ballast" ;;
    *) exit 64 ;;
esac
free=$(df --output=avail --block-size=1 "$DATA" | tail -n 1)
fallocate --length "$((free - 8388608))" "$DATA/ballast" || exit 1
for _ in $(seq 100); do
    grep -q "the volume is almost full" "$SAID" && exit 0
    sleep 0.1
done
exit 1

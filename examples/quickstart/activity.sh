#!/bin/sh
# About two seconds of ordinary work for the quickstart to watch: files are opened, read, and missed.
# Without the files of a language, which every program would open.
export LC_ALL=C
for round in 1 2 3 4 5; do
    cat /etc/hostname /proc/loadavg /no/such/file
    ls /
    sleep 0.4
done >/dev/null 2>&1

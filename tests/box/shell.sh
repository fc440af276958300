#!/bin/sh
# Runs as root each line that comes in by the virtual machine's port. Answers with what the command
# prints, then a record separator and its exit code on a line.
port=/dev/vport0p1
# For a moment it is there and cannot be opened.
until [ -c "$port" ] && (: <>"$port") 2>/dev/null; do
    sleep 0.1
done
exec 3<>"$port"
printf '\036ready\n' >&3
while read -r command <&3; do
    code=0
    (eval "$command") </dev/null >&3 2>&1 || code=$?
    printf '\036%s\n' "$code" >&3
done

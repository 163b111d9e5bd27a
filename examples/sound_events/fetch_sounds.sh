#!/bin/sh
# Fetch and unpack the Debian packages of the study (260 MB) into a folder; nothing is installed.
#
#     sh fetch_sounds.sh /tmp/sounds
set -e
folder=${1:?a folder for the packages, outside of the repository}
mkdir -p "$folder"
cd "$folder"
for package in asterisk-moh-opsound-wav asterisk-core-sounds-en-wav sound-theme-freedesktop frozen-bubble-data asc-music \
    foobillardplus-data tuxfootball scratch libreoffice-common freetennis-common; do
    [ -d "$package" ] && continue
    apt-get download "$package"
    mkdir "$package.new"
    dpkg-deb -x "$package"_*.deb "$package.new"
    mv "$package.new" "$package"
    rm "$package"_*.deb
done

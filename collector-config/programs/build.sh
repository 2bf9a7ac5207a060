#!/usr/bin/env bash
# Builds the Collector, Jaeger and VictoriaLogs from source, at the versions that are pinned beside this file.
# Prints "NAME PATH" for each on standard output, and progress on standard error. What was built is kept
# outside the tree, under a name made of its pins: a second run only prints.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/jwt-audit/programs

# Of this machine's own configuration of Go only what says where modules come from and where they are kept.
export CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly

tell() { echo "collector: $*" >&2; }

# compile PACKAGE FILE: build in the current directory's module, telling how far it is
compile() {
  go build -v -trimpath -buildvcs=false -ldflags='-s -w' -o "$2" "$1" 2>&1 | awk '
    /^go: downloading/ { if (++modules % 50 == 0) print "collector:   " modules " modules fetched"; next }
    /^[^ #]+$/ { if (++packages % 200 == 0) print "collector:   " packages " packages compiled"; next }
    { print }' >&2
}

otelcol() { # the builder writes the sources from the manifest, the pins are ours
  (cd "$here/builder" && compile go.opentelemetry.io/collector/cmd/builder "$1/builder")
  cp "$here/otelcol/builder.yaml" "$1"
  (cd "$1" && ./builder --skip-compilation --skip-get-modules --config builder.yaml 2> builder.log) ||
    { cat "$1/builder.log" >&2; return 1; }
  cp "$here"/otelcol/go.* "$1/sources"
  (cd "$1/sources" && compile . "$1/otelcol")
}
jaeger() { (cd "$here/jaeger" && compile github.com/jaegertracing/jaeger/cmd/jaeger "$1/jaeger"); }
victoria-logs() {
  (cd "$here/victoria-logs" && compile github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs "$1/victoria-logs")
}

for name in otelcol jaeger victoria-logs; do
  pins=("$here/$name"/*)
  [ "$name" != otelcol ] || pins+=("$here"/builder/*)
  program=$cache/$name-$(cat "${pins[@]}" | cksum | cut -d ' ' -f 1)
  if [ ! -x "$program" ]; then
    if ! command -v go > /dev/null; then
      tell 'go was not found in PATH: Go 1.26 or newer is needed to build the Collector, Jaeger and VictoriaLogs'
      exit 1
    fi
    tell "building $name (the first time takes minutes) ..."
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/.building.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    "$name" "$work" # a bare command, so that the first failure ends the script
    mv "$work/$name" "$program"
    rm -rf "$work"
    tell "built $name after $SECONDS s"
  fi
  echo "$name $program"
done

# What scripts/run, scripts/test and scripts/bench share: finding what is missing and installing it. Sourced by bash.
# Everything fetched or built lands in the repository's target/ and node_modules/ folders.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools="$PWD/target/tools"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"
# What is built once and thrown away need not be prepared for changes.
if [ -n "${CI:-}" ]; then
    export CARGO_INCREMENTAL="${CARGO_INCREMENTAL:-0}"
    # Nor need it be as fast as what is installed, which takes longer to build.
    export CARGO_PROFILE_RELEASE_LTO="${CARGO_PROFILE_RELEASE_LTO:-off}" CARGO_PROFILE_RELEASE_CODEGEN_UNITS="${CARGO_PROFILE_RELEASE_CODEGEN_UNITS:-16}"
fi

say() { printf '\n\033[1m== %s\033[0m\n' "$*" >&2; }
fail() {
    printf 'sluice: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# install_packages COMMAND=PACKAGE...: Debian packages for the commands that are not there.
install_packages() {
    local missing=() pair as_root=()
    for pair in "$@"; do
        have "${pair%%=*}" || missing+=("${pair#*=}")
    done
    [ "${#missing[@]}" -eq 0 ] && return 0
    have apt-get || fail "please install: ${missing[*]} (there is no apt-get here to do it)"
    if [ "$(id -u)" -ne 0 ]; then
        have sudo || fail "please install as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing ${missing[*]}"
    # A server wants no questions and no recommendations.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

need_rust() {
    have cargo || [ ! -x "$HOME/.cargo/bin/cargo" ] || PATH="$HOME/.cargo/bin:$PATH"
    have cargo || fail "Rust is missing: install it from https://rustup.rs, then run this again"
    # The codecs and the cryptography are C underneath.
    install_packages cc=build-essential c++=build-essential make=build-essential cmake=cmake pkg-config=pkg-config
}

need_node() {
    have node && have npm || fail "Node 20 or newer is missing: https://nodejs.org"
    local major
    major=$(node -p 'process.versions.node.split(".")[0]')
    [ "$major" -ge 20 ] || fail "Node 20 or newer is needed, this is $(node --version)"
}

# npm_install FOLDER: what its lock file says, again only when that changed.
npm_install() {
    local stamp="$1/node_modules/.installed"
    [ -f "$stamp" ] && cmp -s "$stamp" "$1/package-lock.json" && return 0
    say "installing the packages of $1/"
    (cd "$1" && npm ci --no-audit --no-fund --loglevel=error >&2)
    cp "$1/package-lock.json" "$stamp"
}

# The pages, built before the server because it embeds them.
build_web() {
    [ -f web/package.json ] || return 0
    need_node
    npm_install web
    if [ ! -f web/dist/index.html ] || [ -n "$(find web -newer web/dist/index.html -type f -not -path '*/node_modules/*' -not -path '*/dist/*' -print -quit)" ]; then
        say "building the pages"
        (cd web && npm run --silent build >&2)
        # The bundler may keep a file's time; the build happened now.
        touch web/dist/index.html
    fi
}

build_server() {
    need_rust
    build_web
    say "building the server (the first time takes some minutes)"
    cargo build --release --locked --bin sluice
}

need_cargo_deny() {
    have cargo-deny || [ -x "$tools/bin/cargo-deny" ] || {
        say "building cargo-deny"
        # A checker that runs for two seconds need not be optimized for minutes, nor be looked into.
        CARGO_PROFILE_DEV_DEBUG=false CARGO_INCREMENTAL=0 cargo install --quiet --locked --debug cargo-deny --root "$tools" --target-dir "$tools/build"
        rm -rf "$tools/build"
    }
    PATH="$PATH:$tools/bin"
}

# need_python_package MODULE PACKAGE: in a Python environment of our own, whose interpreter is $tools/python/bin/python.
need_python_package() {
    local python="$tools/python"
    "$python/bin/python" -c "import $1" 2>/dev/null && return 0
    say "fetching $2 from PyPI"
    have python3 || install_packages python3=python3
    [ -x "$python/bin/pip" ] || python3 -m venv "$python" 2>/dev/null || {
        install_packages no-such-command=python3-venv
        python3 -m venv --clear "$python"
    }
    "$python/bin/python" -m pip install --quiet --disable-pip-version-check "$2" >&2
}

# Sets SLUICE_FFMPEG to an ffmpeg that speaks WHIP (7.1 or newer); Debian's is older.
need_ffmpeg() {
    local ffmpeg
    for ffmpeg in "${SLUICE_FFMPEG:-}" "$(command -v ffmpeg || true)"; do
        if [ -n "$ffmpeg" ] && "$ffmpeg" -hide_banner -muxers 2>/dev/null | grep -q ' whip '; then
            export SLUICE_FFMPEG="$ffmpeg"
            return 0
        fi
    done
    need_python_package imageio_ffmpeg imageio-ffmpeg
    local python="$tools/python"
    SLUICE_FFMPEG=$("$python/bin/python" -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())')
    export SLUICE_FFMPEG
}

# The README's examples are run as they stand there.
need_php() { install_packages php=php-cli; }

# Sets SLUICE_FIREFOX to a Firefox of the system.
need_firefox() {
    local name
    [ -n "${SLUICE_FIREFOX:-}" ] && return 0
    have firefox || install_packages firefox-esr=firefox-esr
    # Its decoder of H.264 and AAC is a recommendation only, of whichever version Debian has.
    ldconfig -p 2>/dev/null | grep -q 'libavcodec\.so' || install_packages no-such-command=libavcodec-extra
    for name in firefox-esr firefox; do
        if have "$name"; then
            SLUICE_FIREFOX=$(command -v "$name")
            export SLUICE_FIREFOX
            return 0
        fi
    done
    fail "no Firefox: install it, or name one in SLUICE_FIREFOX"
}

# OBS itself, a screen and a sound card for it, and an ffmpeg that draws and plays on them: Debian's. Sets SLUICE_FFMPEG_SHOW.
need_obs() {
    install_packages obs=obs-studio Xvfb=xvfb pulseaudio=pulseaudio
    # It draws by OpenGL, which takes a driver that is a recommendation only.
    compgen -G '/usr/lib/*/dri/swrast_dri.so' >/dev/null || install_packages no-such-command=libgl1-mesa-dri
    [ -x /usr/bin/ffmpeg ] || install_packages no-such-command=ffmpeg
    export SLUICE_FFMPEG_SHOW=/usr/bin/ffmpeg
}

# A server that speaks S3, in the Python of SLUICE_PYTHON.
need_moto() { need_python_package moto.server 'moto[s3,server]'; }

# Sets SLUICE_PYTHON to a Python that has aiortc, and builds the client that is made of the webrtc crate.
need_webrtc_clients() {
    need_python_package aiortc aiortc
    export SLUICE_PYTHON="$tools/python/bin/python"
    if [ -z "${SLUICE_WEBRTC_RS:-}" ]; then
        # As a test's program it is made of what the tests are made of already.
        cargo test --quiet --locked --workspace --test usage --no-run
        export SLUICE_WEBRTC_RS="$PWD/target/debug/sluice-webrtc-rs"
    fi
}

# Builds the client that is made of GStreamer's elements, which are a crate; what they need comes from Debian. Sets SLUICE_GSTREAMER.
need_gstreamer() {
    local packages=()
    pkg-config --exists gstreamer-app-1.0 gstreamer-webrtc-1.0 || packages+=(libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstreamer-plugins-bad1.0-dev)
    install_packages gst-inspect-1.0=gstreamer1.0-tools "${packages[@]/#/no-such-command=}"
    packages=()
    gst-inspect-1.0 --exists opusenc || packages+=(gstreamer1.0-plugins-base)
    gst-inspect-1.0 --exists rtph264pay || packages+=(gstreamer1.0-plugins-good)
    gst-inspect-1.0 --exists webrtcbin && gst-inspect-1.0 --exists openh264dec || packages+=(gstreamer1.0-plugins-bad)
    gst-inspect-1.0 --exists x264enc || packages+=(gstreamer1.0-plugins-ugly)
    gst-inspect-1.0 --exists nicesrc || packages+=(gstreamer1.0-nice)
    install_packages "${packages[@]/#/no-such-command=}"
    say "building GStreamer's WebRTC plugin (the first time takes some minutes)"
    CARGO_TARGET_DIR="$PWD/target/gstreamer" cargo build --quiet --locked --manifest-path tests/gstreamer/Cargo.toml
    export SLUICE_GSTREAMER="$PWD/target/gstreamer/debug/sluice-gstreamer"
}

# A TURN server that knows nothing of us. Debian would start it as a service, open to all: the tests alone are to start it.
need_coturn() {
    local as_root=()
    install_packages openssl=openssl
    have turnserver && return 0
    [ "$(id -u)" -eq 0 ] || ! have sudo || as_root=(sudo)
    ! have systemctl || "${as_root[@]}" systemctl mask --quiet coturn 2>/dev/null || true
    install_packages turnserver=coturn
}

# Sets SLUICE_CHROMIUM to a Chromium of the system.
need_chromium() {
    local name
    [ -n "${SLUICE_CHROMIUM:-}" ] && return 0
    for name in chromium chromium-browser google-chrome; do
        have "$name" && break
    done
    have "$name" || install_packages chromium=chromium
    for name in chromium chromium-browser google-chrome; do
        if have "$name"; then
            SLUICE_CHROMIUM=$(command -v "$name")
            export SLUICE_CHROMIUM
            return 0
        fi
    done
    fail "no Chromium: install it, or name one in SLUICE_CHROMIUM"
}

# Sets SLUICE_ALONE to a command prefix that runs a command in a network of its own, with loopback alone, in which tests make
# further networks, lossy and filtered. Its processes, and so the networks, end with it, however it ends. Empty where that may
# not be: only root may, and not in every container.
need_networks() {
    local unshare=(unshare --net --pid --fork --kill-child --mount-proc)
    SLUICE_ALONE=()
    if [ "$(id -u)" -eq 0 ] && "${unshare[@]}" true 2>/dev/null; then
        install_packages ip=iproute2 iptables=iptables ethtool=ethtool conntrack=conntrack
        # shellcheck disable=SC2016 # The inner shell expands it; it stays, to be the parent of what is left behind.
        SLUICE_ALONE=("${unshare[@]}" sh -c 'ip link set lo up && SLUICE_E2E_NETWORK=own "$@"' sh)
    fi
}

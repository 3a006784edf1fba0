"""The program the VM's disk holds as /usr/lib/lab-guest: `init`, `firstboot` or `systemctl ARGUMENTS`."""

from __future__ import annotations

import sys


def main() -> int:
    match sys.argv[1:]:
        case ["init"]:
            from lab.vm.guest import init

            return init.main()
        case ["firstboot"]:
            from lab.vm.guest import firstboot

            return firstboot.run()
        case ["systemctl", *rest]:
            from lab.vm.guest import systemctl

            return systemctl.main(rest)
        case other:
            print(f"unknown call {other}; one of init, firstboot, systemctl", file=sys.stderr)
            return 2

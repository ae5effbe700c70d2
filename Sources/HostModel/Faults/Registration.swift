internal import ABIChecker
internal import PVClock
internal import Scenarios

extension Fault {
  /// Why a restart of the clock breaks so much.
  static let restart = "time that restarts is another time to every rule that follows it"

  static let registration: [Fault] = [
    Fault(
      "RESTART-ON-VCPU0",
      breaks: [
        "SYSTIME-REWRITE-KEEPS-TIME", "REPLUG-VCPU0-KEEPS-TIME", "REWRITER-KEEPS-TIME",
        "SCHEDCLOCK-CONSTANT-OFFSET", "MONO-VCPU",
      ],
      also: restartBreaks, because: restart,
      "a guest's write on vCPU 0 restarts time: Linux 4.2, b7e60c5aedd2"
    ) {
      $0.beforeWrite { clock, access, _ in
        if access.vcpu == 0, !access.byHost, access.isSystemTime { clock.restart() }
      }
    },
    Fault(
      "RESTART-ON-ANY-VCPU", breaks: ["SYSTIME-REWRITE-KEEPS-TIME"],
      also: restartBreaks, because: restart, "a guest's write on any vCPU restarts time"
    ) {
      $0.beforeWrite { clock, access, _ in
        if !access.byHost, access.isSystemTime { clock.restart() }
      }
    },
    Fault(
      "RESTART-BY-IOCTLS",
      breaks: ["SYSTIME-REWRITE-KEEPS-TIME", "REPLUG-VCPU0-KEEPS-TIME", "REWRITER-KEEPS-TIME"],
      also: restartBreaks, because: restart,
      "the kernel's own clock, a write of vCPU 0 repeated by KVM_SET_MSRS and followed by KVM_SET_CLOCK(0): the same "
        + "breakage on any kernel", .clock(ClockMaker("interference") { Interference() })),
    Fault(
      "RESTART-ONCE-IN-A-STORM", breaks: ["SYSTIME-REWRITE-STORM"], also: restartBreaks,
      because: restart,
      "the 700th write of vCPU 0 restarts time"
    ) {
      $0.beforeWrite { clock, access, _ in
        if clock.count(access.vcpu) == 700 { clock.restart() }
      }
    },
    Fault(
      "RESTART-LATE", breaks: ["REWRITER-KEEPS-TIME"], also: restartBreaks, because: restart,
      "the 1500th write of vCPU 0 sets time back by 1 s"
    ) {
      $0.beforeWrite { clock, access, _ in
        if clock.count(access.vcpu) == 1500 { clock.step(-1_000_000_000) }
      }
    },
    Fault(
      "SLIP-ON-WRITE", breaks: ["REWRITER-KEEPS-TIME"],
      "each write of the MSR loses 20 us: no single step stands out"
    ) {
      $0.beforeWrite { clock, _, _ in clock.step(-20_000) }
    },
    Fault(
      "NO-UPDATE-ON-WRITE", breaks: ["SYSTIME-ENABLE"],
      also: ["PAGE-SIZE-32", "PAGE-PAD-ZERO", "GETCLOCK-IS-GUEST-VIEW"],
      because: "what is not written holds what stood there",
      "the value is kept, but no record is written: kvm_write_system_time() that requests no update"
    ) {
      $0.write = { clock, access, value in
        guard access.isSystemTime else { return nil }
        clock.vcpus[access.vcpu]!.systemTimeMSR = value
        return .done
      }
    },
    Fault(
      "MOVE-KEEPS-OLD", breaks: ["SYSTIME-MOVE-FREEZES-OLD"],
      "a record that was moved stays registered as a second one"
    ) {
      $0.beforeWrite { clock, access, value in
        let old = clock.vcpus[access.vcpu]!.systemTimeMSR
        if old & 1 == 1, value & 1 == 1, old != value { clock.memo[access.vcpu] = old & ~1 }
      }
      $0.stores = { clock, vcpu, _, stores in
        guard let old = clock.memo[vcpu] else { return }
        for store in stores { clock.memory.write(store.bytes, at: old + store.offset) }
      }
    },
    Fault(
      "DISABLE-IGNORED", breaks: ["SYSTIME-DISABLE-FREEZES"],
      "bit 0 is not looked at when it is clear: kvm_write_system_time() that does not deactivate the page"
    ) {
      $0.write = { clock, access, value in
        guard access.isSystemTime, value & 1 == 0 else { return nil }
        clock.requestRecords()
        return .done
      }
    },
    Fault(
      "RESTART-ON-REENABLE", breaks: ["SYSTIME-REENABLE-KEEPS-TIME", "SYSTIME-REWRITE-KEEPS-TIME"],
      also: restartBreaks, because: restart,
      "time restarts where a record is registered after it was disabled"
    ) {
      $0.beforeWrite { clock, access, value in
        guard access.isSystemTime else { return }
        if value & 1 == 0 {
          clock.memo[access.vcpu] = 1
        } else if clock.memo[access.vcpu] == 1 {
          clock.memo[access.vcpu] = 0
          clock.restart()
        }
      }
    },
    Fault(
      "READBACK-LOSES-BIT0", breaks: ["MSR-READBACK"],
      "RDMSR of 0x4b564d01 does not show the enable bit"
    ) {
      $0.read = { _, access, value in
        if access.msr == MSR.systemTime, !access.byHost { value &= ~1 }
      }
    },
    Fault(
      "HOST-WRITE-NO-RECORD", breaks: ["HOSTSET-REGISTERS"],
      "KVM_SET_MSRS keeps the value and registers nothing: kvm_write_system_time() that returns early for the host"
    ) {
      $0.write = { clock, access, value in
        guard access.byHost, access.isSystemTime else { return nil }
        clock.vcpus[access.vcpu]!.systemTimeMSR = value & ~1
        return .done
      }
    },
    Fault(
      "ALIGN-64", breaks: ["SYSTIME-ALIGN4"], also: ["PAGE-PAD-ZERO"],
      because: "at the address asked for stands what the host had filled in",
      "the address is rounded down to 64 bytes: the class of the repair of CVE-2013-1796"
    ) {
      $0.write = { _, access, value in
        if access.isSystemTime { value = value & ~63 | value & 1 }
        return nil
      }
    },
    Fault(
      "UNBACKED-FAULTS", breaks: ["SYSTIME-UNBACKED-NOFAULT"],
      "an address without memory raises #GP"
    ) {
      $0.write = { clock, access, value in
        let isBacked = clock.memory.isWritable(value & ~1, count: 32)
        return access.isSystemTime && value & 1 == 1 && !isBacked ? .fault : nil
      }
    },
    Fault(
      "UNBACKED-STRAY", breaks: ["SYSTIME-UNBACKED-NOFAULT"],
      "a record that can't be served is written to the last address that could"
    ) {
      $0.stores = { clock, vcpu, _, _ in clock.memo[vcpu] = clock.vcpus[vcpu]!.recordAddress }
      $0.unserved = { clock, vcpu in
        guard let last = clock.memo[vcpu] else { return }
        clock.memory.write(VMClock.bytes(UInt32(truncatingIfNeeded: clock.count(-1))), at: last)
      }
    },
    Fault(
      "FLAGS-KEPT", breaks: ["SCRIBBLE-REPAIRED"], also: ["FLAGS-RESERVED-ZERO"],
      because: "the guest's garbage in the flags is what that rule looks at, too",
      "an update keeps all flags that it finds"
    ) { $0.record = { _, _, before, record in record.flags.formUnion(before.flags) } },
    Fault(
      "RESNAPSHOT-ON-WRITE", breaks: ["SYSTIME-REWRITE-MASTER-EXACT"],
      "each write takes a new pair, 1 ns off the one before"
    ) {
      $0.beforeWrite { clock, _, _ in clock.step(-1) }
    },
  ]

  /// What a restart, or a step back, breaks in the scenarios in which it shows: it may be read by any vCPU, or by none.
  static let restartBreaks = [
    "MONO-CROSS-VCPU", "MONO-VCPU", "CLOCK-BRACKET", "GETCLOCK-MONO", "SETCLOCK-SETS-ALL-VCPUS",
    "OLDMSR-KEEPS-TIME", "SYSTIME-REWRITE-KEEPS-TIME",
  ]
}

extension Access {
  var isSystemTime: Bool { msr == MSR.systemTime || msr == MSR.systemTimeOld }
  var isWallClock: Bool { msr == MSR.wallClock || msr == MSR.wallClockOld }
  var isOld: Bool { msr == MSR.systemTimeOld || msr == MSR.wallClockOld }
}

extension VMClock {
  /// How often it was asked for this key, this time included.
  mutating func count(_ key: Int) -> UInt64 {
    memo[key, default: 0] += 1
    return memo[key]!
  }

  /// Time is 0 again.
  mutating func restart() { setSystemTime(0, at: now()) }

  /// Time goes on from elsewhere, in nanoseconds from where it is.
  mutating func step(_ nanoseconds: Int64) {
    let now = now()
    setSystemTime(now.systemTime &+ UInt64(bitPattern: nanoseconds), at: now)
  }
}

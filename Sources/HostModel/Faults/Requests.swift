internal import ABIChecker
internal import KVM
internal import PVClock

extension Fault {
  static let requests: [Fault] = [
    Fault(
      "SETCLOCK-VCPU0-ONLY", breaks: ["SETCLOCK-SETS-ALL-VCPUS"],
      also: ["MONO-CROSS-VCPU", "SYSTIME-GLOBAL-PAIR", "SETCLOCK-EXACT", "GETCLOCK-IS-GUEST-VIEW"],
      because: "a vCPU on a clock of its own is off by every measure",
      "KVM_SET_CLOCK leaves vCPU 1 on the clock that it had"
    ) {
      $0.set = { clock, data in
        clock.memo[1, default: 0] &+= data.clock &- clock.now().systemTime
        return false
      }
      $0.record = { clock, vcpu, _, record in
        if vcpu == 1 { record.systemTime &-= clock.memo[1] ?? 0 }
      }
    },
    Fault(
      "GET-50-NS-AHEAD", breaks: ["GETCLOCK-IS-GUEST-VIEW"], "KVM_GET_CLOCK is 50 ns ahead"
    ) { $0.get = { clock, data in if clock.hasMasterClock { data.clock &+= 50 } } },
    Fault(
      "GET-FAST", breaks: ["RATE-RAW"], also: ["GETCLOCK-IS-GUEST-VIEW"],
      because: "a second on, the two are 5 us apart",
      "KVM_GET_CLOCK runs 5 ppm fast"
    ) { $0.get = { _, data in data.clock &+= data.clock / 200_000 } },
    Fault(
      "STARTS-WITH-HOST", breaks: ["CLOCK-ZERO-AT-VM-CREATE"], also: ["CLOCK-BRACKET"],
      because: "guests, who start at 0, are below it",
      "the clock does not start at 0: kvm_arch_init_vm() that takes no offset"
    ) {
      $0.get = { _, data in data.clock &+= 5_000_000_000 }
    },
    Fault(
      "FLAGS-BEFORE-A-VCPU", breaks: ["GETCLOCK-NOVCPU-FLAGS"], also: ["GETCLOCK-NONMASTER-FIELDS"],
      because: "there is no master clock then, either",
      "KVM_GET_CLOCK says KVM_CLOCK_HOST_TSC before a vCPU ran"
    ) {
      $0.get = { clock, data in
        guard !clock.vcpus.values.contains(where: \.hasEntered) else { return }
        data.flags.insert(.hostTSC)
        data.hostTSC = clock.time.tsc()
      }
    },
    Fault(
      "REALTIME-IS-MONOTONIC", breaks: ["GETCLOCK-FIELDS"],
      "realtime holds the monotonic clock"
    ) {
      $0.get = { clock, data in
        if data.flags.contains(.realtime) { data.realtime = clock.time.tscAndRaw().raw }
      }
    },
    Fault(
      "REALTIME-WITHOUT-MASTER", breaks: ["GETCLOCK-NONMASTER-FIELDS"],
      "without the master clock, realtime is filled in all the same"
    ) {
      $0.get = { clock, data in
        guard !clock.hasMasterClock else { return }
        data.flags.insert(.realtime)
        data.realtime = clock.time.realtime()
      }
    },
    Fault(
      "GET-STEPS-BACK", breaks: ["GETCLOCK-MONO"],
      also: ["CLOCK-BRACKET", "GETCLOCK-IS-GUEST-VIEW"],
      because: "one result in a hundred is wrong by any measure",
      "every 100th KVM_GET_CLOCK is 100 us behind"
    ) {
      $0.get = { clock, data in if clock.count(0) % 100 == 0 { data.clock &-= 100_000 } }
    },
    Fault(
      "GET-SLEWED", breaks: ["GETCLOCK-NONMASTER-IS-RAW"],
      also: ["GETCLOCK-MONO", "CLOCK-BRACKET-NONMASTER", "CLOCK-BRACKET", "SETCLOCK-NONMASTER"],
      because: "after KVM_SET_CLOCK the error is that of the value",
      "without the master clock KVM_GET_CLOCK follows a clock that NTP makes 1 % faster: Linux before 53fafdbb8b21"
    ) { $0.get = { clock, data in if !clock.hasMasterClock { data.clock &+= data.clock / 100 } } },
    Fault(
      "NONMASTER-AHEAD", breaks: ["CLOCK-BRACKET-NONMASTER"],
      also: ["SETCLOCK-NONMASTER", "CLOCK-BRACKET", "SETCLOCK-SETS-ALL-VCPUS"],
      because: "a record that is ahead is ahead of every value",
      "without the master clock records are 300 ms ahead: another base than KVM_GET_CLOCK's"
    ) {
      $0.record = { clock, _, _, record in
        if !clock.hasMasterClock { record.systemTime &+= 300_000_000 }
      }
    },
    Fault(
      "SETCLOCK-55-US-LOW", breaks: ["SETCLOCK-EXACT"],
      also: ["CLOCK-BRACKET", "SETCLOCK-SETS-ALL-VCPUS"],
      because: "where brackets are narrow they show it, too",
      "the value is tied to a moment 55 us before the call: Linux before 77fcbe823f00"
    ) {
      $0.record = { clock, _, _, record in
        if clock.hasMasterClock { record.systemTime &-= 55_000 }
      }
    },
    Fault(
      "SETCLOCK-OLD-PAIR", breaks: ["SETCLOCK-EXACT"],
      "no fresh pair: the value is converted to an old timestamp"
    ) {
      $0.record = { clock, _, _, record in
        guard clock.hasMasterClock else { return }
        let cycles: UInt64 = 20_000_000
        record.tscTimestamp &-= cycles
        record.systemTime &-= clock.scale.nanoseconds(cycles: cycles)
      }
    },
    Fault(
      "SETCLOCK-NONMASTER-LOW", breaks: ["SETCLOCK-NONMASTER"], also: ["SETCLOCK-SETS-ALL-VCPUS"],
      because: "it is a setting as any other",
      "without the master clock the value set is lowered by 1 s"
    ) {
      $0.set = { clock, data in
        if !clock.hasMasterClock { data.clock &-= 1_000_000_000 }
        return false
      }
    },
    Fault(
      "SETCLOCK-ANY-FLAG", breaks: ["SETCLOCK-FLAGS"], "flags are not checked"
    ) { $0.set = { _, _ in true } },
    Fault(
      "SETCLOCK-REFUSES-GETS-FLAGS", breaks: ["GETSET-ROUNDTRIP"],
      "flags that KVM_GET_CLOCK returns are refused: Linux before 5.16"
    ) {
      $0.set = { _, data in
        if data.flags.contains(.tscStable) { data.flags.formUnion(ClockFlags(rawValue: 1 << 20)) }
        return false
      }
    },
    Fault(
      "REALTIME-IGNORED", breaks: ["SETCLOCK-REALTIME-FWD", "MIG-REALTIME-CONTINUES"],
      also: ["GETSET-ROUNDTRIP"], because: "what went by is not counted there either",
      "KVM_SET_CLOCK does not look at realtime"
    ) {
      $0.set = { _, data in
        data.flags.remove(.realtime)
        return false
      }
    },
    Fault(
      "REALTIME-SIGNED", breaks: ["SETCLOCK-REALTIME-NOBACK"],
      "a realtime that is still to come takes the clock back"
    ) {
      $0.set = { clock, data in
        let now = clock.time.realtime()
        if data.flags.contains(.realtime), data.realtime > now {
          data.clock &-= data.realtime - now
        }
        return false
      }
    },
    Fault(
      "HOST-TSC-COUNTS", breaks: ["SETCLOCK-OTHERFLAGS-IGNORED"], also: ["SETCLOCK-SETS-ALL-VCPUS"],
      because: "it is a setting as any other",
      "host_tsc is taken for the moment of the value"
    ) {
      $0.set = { clock, data in
        guard data.flags.contains(.hostTSC) else { return false }
        data.clock &+= clock.scale.nanoseconds(cycles: clock.time.tsc() &- data.hostTSC)
        return false
      }
    },
  ]
}

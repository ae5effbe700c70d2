@testable import ABIChecker

extension HistoryBuilder {
  /// KVM hears of a clocksource that is no TSC; of the way back it takes no notice by itself.
  mutating func switchClocksource(
    to source: SimulatedTime.Source, taking nanoseconds: UInt64 = 165_000
  ) {
    bracketed(.host) { host in
      host.time.switchSource(to: source, taking: nanoseconds)
      if !source.allowsMasterClock {
        host.pair = nil
        host.refreshAll()
      }
      return [.hostChanged(what: "clocksource", value: source.rawValue, error: nil)]
    }
  }

  mutating func readMonotonic(fast partsPerMillion: UInt64) {
    bracketed(.host) { host in
      let raw = host.time.raw
      return [
        .hostClock(name: "CLOCK_MONOTONIC", nanoseconds: raw + raw / 1_000_000 * partsPerMillion)
      ]
    }
  }

  /// The host sleeps, for so long by CLOCK_BOOTTIME.
  mutating func suspend(seconds: UInt64, error: Errno? = nil) {
    bracketed(.host) { host in
      host.asleep += seconds * 1_000_000_000
      host.clockOffset &+= seconds * 1_000_000_000
      host.refreshAll()
      for (id, vcpu) in host.vcpus where vcpu.isRegistered {
        host.serve(id)
        host.records[vcpu.address]?.flags.insert(.guestStopped)
      }
      return [.hostChanged(what: "suspend", value: "freezer", error: error)]
    }
  }
}

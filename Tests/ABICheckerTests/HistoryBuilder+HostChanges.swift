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

  /// A guest reads in a loop from before `change` until after it, and counts steps only where bit 0 is set.
  mutating func loop(_ id: Int, across change: (inout Self) -> Void) {
    let began = begin()
    serve(id)
    let first = reading(on: id)
    change(&self)
    wait(milliseconds: 3)
    serve(id)
    let result = LoopResult(
      reads: 50_000, unstable: 25_000, versions: 1, first: first, last: reading(on: id))
    end(.vcpu(id), began, [.looped(guest: "schedclock", result: result)])
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

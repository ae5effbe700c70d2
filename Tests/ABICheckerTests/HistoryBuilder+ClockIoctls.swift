@testable import ABIChecker

// KVM_GET_CLOCK and KVM_SET_CLOCK with all their fields, and the host's CLOCK_REALTIME.

extension HistoryBuilder {
  var realtime: UInt64 { realtimeAhead &+ time.raw }

  var realtimeAhead: UInt64 {
    get { wall.realtimeOffset }
    set { wall.realtimeOffset = newValue }
  }

  /// What `KVM_GET_CLOCK` returns in master-clock mode.
  var masterClockRecord: ClockRecord {
    ClockRecord(
      clock: clock, flags: clockFlags, realtime: clockFlags & 4 == 0 ? 0 : realtime,
      hostTSC: clockFlags & 8 == 0 ? 0 : time.cycles)
  }

  /// `KVM_GET_CLOCK` with a look at the reserved words.
  mutating func wholeClock() {
    getClock()
    amendClock { $0.reserved = [0, 0, 0, 0, 0] }
  }

  mutating func readRealtime() {
    bracketed(.host) { [.hostClock(name: "CLOCK_REALTIME", nanoseconds: $0.realtime)] }
  }

  /// With CLOCK_REALTIME before and after; `realtime` is what goes with flag 4.
  mutating func setClock(_ value: UInt64, realtime: UInt64, flags: UInt32 = 4) {
    readRealtime()
    trySetClock(ClockRecord(clock: value, flags: flags, realtime: realtime, hostTSC: 77))
    readRealtime()
  }

  mutating func trySetClock(_ record: ClockRecord) {
    let known: UInt32 = clockFlags & 4 == 0 ? 0 : 0xe
    guard record.flags & ~known == 0 else {
      return host(.setClockRefused(record, error: "EINVAL"))
    }
    bracketed(.host) { host in
      host.takePair()
      var value = record.clock
      let now = host.realtime
      if record.hasRealtime, now > record.realtime { value &+= now - record.realtime }
      host.clockOffset = value &- (host.pair?.base ?? host.time.raw)
      host.constant = nil
      return [.setClock(record)]
    }
  }

  /// Two threads call `KVM_GET_CLOCK` while the vCPUs go in and out.
  mutating func race(_ change: (inout ClockCalls) -> Void = { _ in }) {
    let began = begin()
    for id in vcpus.keys.sorted() { enter(id) }
    wait(milliseconds: 1)
    var calls = ClockCalls(threads: 2, calls: 2000)
    change(&calls)
    end(.host, began, [.clockCalls(calls)])
  }

  /// The same with the vCPUs at rest.
  mutating func raceAlone(_ change: (inout ClockCalls) -> Void = { _ in }) {
    bracketed(.host) { host in
      host.wait(milliseconds: 1)
      var calls = ClockCalls(threads: 2, calls: 2000)
      change(&calls)
      return [.clockCalls(calls)]
    }
  }

  /// Changes what the last `KVM_GET_CLOCK`, `KVM_SET_CLOCK` or refused one has.
  mutating func amendClock(_ change: (inout ClockRecord) -> Void) {
    for at in events.indices.reversed() {
      switch events[at].action {
      case .getClock(var record):
        change(&record)
        events[at].action = .getClock(record)
      case .setClock(var record):
        change(&record)
        events[at].action = .setClock(record)
      default: continue
      }
      return
    }
  }
}

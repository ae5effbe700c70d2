internal import PVClock

// KVM_GET_CLOCK and KVM_SET_CLOCK in detail, with and without the master clock.

extension Rule {
  static let clockRequests: [Rule] = [
    .clockZeroAtVMCreate, .clockBracketNonMaster, .getclockNoVCPUFlags, .getclockFields,
    .getclockNonMasterFields, .getclockMono, .getclockNonMasterIsRaw, .setclockExact,
    .setclockNonMaster, .setclockFlags, .getsetRoundtrip, .setclockRealtimeFwd,
    .setclockRealtimeNoBack, .setclockOtherFlagsIgnored,
  ]
}

/// A `KVM_SET_CLOCK` that was accepted, and what was read first after it.
struct Setting {
  /// Place of the event in the history, from 0.
  var index: Int
  var event: Event
  var record: ClockRecord
  /// `KVM_GET_CLOCK`'s first value, and the first reading of each vCPU.
  var first: [Observation] = []
}

extension Timeline {
  var settings: [Setting] {
    var all: [Setting] = []
    var current: Setting?
    var next = 0
    for (index, event) in history.events.enumerated() {
      switch event.action {
      case .vmCreated, .setClock:
        if let current { all.append(current) }
        current = nil
      default: break
      }
      if case .setClock(let record) = event.action {
        current = Setting(index: index, event: event, record: record)
      }
      while next < observations.count, observations[next].index == index {
        let observation = observations[next]
        next += 1
        // A guest that was running meanwhile may have read before the setting.
        guard let setting = current, setting.event.ended.raw <= observation.event.began.raw,
          !setting.first.contains(where: { $0.vcpu == observation.vcpu })
        else { continue }
        current?.first.append(observation)
      }
    }
    if let current { all.append(current) }
    return all
  }

  /// What an observation may show, less what the clock was set to: the time since.
  func allowedAdvance(since setting: Setting, at observation: Observation) -> Interval {
    let elapsed = setting.event.elapsed(to: observation.event)
    let slack = share(rateBound, of: elapsed.upper) + rounding
    return Interval(max(0, elapsed.lower - slack), elapsed.upper + slack + observation.lead)
  }

  /// What KVM says of the flags of `KVM_GET_CLOCK`: with a real time and a host TSC `KVM_SET_CLOCK` takes flags, too.
  var clockFlagsCapability: Int32? {
    for event in history.events {
      if case .capability("KVM_CAP_ADJUST_CLOCK", let value) = event.action { return value }
    }
    return nil
  }
}

extension Observation {
  /// "vcpu1's reading", "KVM_GET_CLOCK".
  var name: String { vcpu.map { "vcpu\($0)'s reading" } ?? "KVM_GET_CLOCK" }
}

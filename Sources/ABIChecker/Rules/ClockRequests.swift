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

/// A `KVM_SET_CLOCK` that was accepted, with the values of the clock around it.
struct Setting {
  /// Place of the event in the history, from 0.
  var index: Int
  var event: Event
  var record: ClockRecord
  /// The machine's last value before it, and what `KVM_GET_CLOCK` returned last.
  var before: Observation?
  var returned: ClockRecord?
  /// `KVM_GET_CLOCK`'s first value after it, and each vCPU's first reading.
  var first: [Observation] = []
}

extension Timeline {
  var settings: [Setting] {
    machines.flatMap { machine in
      var all: [Setting] = []
      var last: Observation?
      var returned: ClockRecord?
      for step in machine.steps {
        if case .setClock(let record) = step.event.action {
          all.append(
            Setting(
              index: step.index, event: step.event, record: record, before: last,
              returned: returned))
        }
        if case .getClock(let record) = step.event.action { returned = record }
        for value in step.observations {
          last = value
          guard let setting = all.last, !setting.first.contains(where: { $0.vcpu == value.vcpu })
          else { continue }
          all[all.count - 1].first.append(value)
        }
      }
      return all
    }
  }

  /// The flags that `KVM_GET_CLOCK` may return; with realtime and host_tsc among them `KVM_SET_CLOCK` takes them, too.
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

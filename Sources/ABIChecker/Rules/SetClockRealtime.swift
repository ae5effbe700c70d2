internal import PVClock

extension Rule {
  static let getsetRoundtrip = Rule(
    "GETSET-ROUNDTRIP",
    "KVM_SET_CLOCK takes what KVM_GET_CLOCK returned, as it is, and moves the clock on by what CLOCK_REALTIME went on "
      + "since.",
    source: "Documentation/virt/kvm/api.rst, 4.30 KVM_SET_CLOCK; Linux c68dc1b577ea (5.16)",
    method:
      "KVM_GET_CLOCK, a pause, the whole structure back, CLOCK_REALTIME before and after.",
    scenarios: [.setClockRealtime], since: "5.16",
    faults: [
      "kvm_vm_ioctl_set_clock(): flags that KVM_GET_CLOCK returns are refused",
      "a clock that does not count the pause",
    ]
  ) { timeline in
    var findings = Findings()
    var last: ClockRecord?
    var returned: [Int: ClockRecord] = [:]
    for (index, event) in timeline.history.events.enumerated() {
      switch event.action {
      case .vmCreated: last = nil
      case .getClock(let record): last = record
      case .setClock(let record), .setClockRefused(let record, _):
        guard let last, last.clock == record.clock, last.flags == record.flags else { continue }
        guard record.hasRealtime else {
          findings.lacks("KVM_GET_CLOCK returned flags \(Hex(record.flags)): no realtime (4)")
          continue
        }
        guard case .setClockRefused(_, let error) = event.action else {
          returned[index] = record
          continue
        }
        findings.expect(
          false, at: [event], "success for what KVM_GET_CLOCK returned: \(record.description)",
          seen: error.description)
      default: continue
      }
    }
    for setting in timeline.settings where returned[setting.index] == setting.record {
      findings.expectMovedOn(setting, in: timeline)
    }
    return findings.outcome(
      atLeast: 4, "first values after what KVM_GET_CLOCK returned was set", in: timeline)
  }

  static let setclockRealtimeFwd = Rule(
    "SETCLOCK-REALTIME-FWD",
    "With KVM_CLOCK_REALTIME, KVM_SET_CLOCK adds to the clock what CLOCK_REALTIME went on since realtime.",
    source: "Documentation/virt/kvm/api.rst, 4.30 KVM_SET_CLOCK; Linux c68dc1b577ea (5.16)",
    method:
      "A realtime of some minutes, a millisecond, no time and months ago; CLOCK_REALTIME before and after the call. If "
      + "it was stepped meanwhile, nothing is said.",
    scenarios: [.setClockRealtime], since: "5.16",
    faults: [
      "kvm_vm_ioctl_set_clock(): realtime is ignored", "a difference that is added twice",
    ]
  ) { timeline in
    var findings = Findings()
    findings.lacksRealtime(timeline)
    for setting in timeline.settings where setting.record.hasRealtime {
      findings.expectMovedOn(setting, in: timeline)
    }
    return findings.outcome(
      atLeast: 6, "first values after settings with a realtime gone by", in: timeline)
  }

  static let setclockRealtimeNoBack = Rule(
    "SETCLOCK-REALTIME-NOBACK",
    "A realtime that is still to come does not take anything off the clock: it starts at the value given.",
    source:
      "arch/x86/kvm/x86.c, kvm_vm_ioctl_set_clock() (\"Avoid stepping the kvmclock backwards\")",
    method:
      "A realtime of a minute, a year and centuries ahead; CLOCK_REALTIME before and after.",
    scenarios: [.setClockRealtime], since: "5.16",
    faults: ["a signed difference: the clock goes back by 60 s"]
  ) { timeline in
    var findings = Findings()
    findings.lacksRealtime(timeline)
    for setting in timeline.settings where setting.record.hasRealtime {
      guard let real = timeline.realtime(around: setting.index) else { continue }
      if let step = real.step {
        findings.cannotTell(step)
        continue
      }
      guard Int128(setting.record.realtime) > Int128(max(real.from, real.to)) + real.unnoticed
      else { continue }
      for first in setting.first {
        findings.expect(
          difference(first.value, setting.record.clock),
          in: timeline.allowedAdvance(since: setting, at: first), limit: Timeline.widestUseful,
          at: [setting.event, first.event],
          "\(first.name) less the value set (\(setting.record.clock) ns, realtime \(setting.record.realtime) ns)",
          why:
            "CLOCK_REALTIME was \(real.to) ns, before realtime: only the time since KVM_SET_CLOCK counts"
        )
      }
    }
    return findings.outcome(
      atLeast: 6, "first values after settings with a realtime to come", in: timeline)
  }
}

extension Findings {
  fileprivate mutating func lacksRealtime(_ timeline: Timeline) {
    for event in timeline.history.events {
      if case .setClockRefused(let record, let error) = event.action, record.hasRealtime {
        lacks("KVM_SET_CLOCK refuses KVM_CLOCK_REALTIME: \(error)")
      }
    }
  }

  /// After a setting with a real time gone by: the value, what CLOCK_REALTIME went on since, and the time since.
  fileprivate mutating func expectMovedOn(_ setting: Setting, in timeline: Timeline) {
    guard let real = timeline.realtime(around: setting.index) else { return }
    if let step = real.step { return cannotTell(step) }
    let record = setting.record
    guard Int128(record.realtime) <= Int128(min(real.from, real.to)) - real.unnoticed else {
      return
    }
    for first in setting.first {
      let since = timeline.allowedAdvance(since: setting, at: first)
      expect(
        difference(first.value, record.clock &+ (real.from &- record.realtime)),
        in: Interval(
          since.lower - real.unnoticed,
          since.upper + difference(real.to, real.from) + real.unnoticed),
        limit: Timeline.widestUseful, at: [real.before, setting.event, real.after, first.event],
        "\(first.name) less the value set (\(record.clock) ns) and less CLOCK_REALTIME before the call (\(real.from) ns) "
          + "less realtime (\(record.realtime) ns)",
        why: "what CLOCK_REALTIME went on during the call, and the time since")
    }
  }
}

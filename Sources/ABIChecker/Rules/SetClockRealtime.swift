internal import PVClock

extension Rule {
  static let getsetRoundtrip = Rule(
    "GETSET-ROUNDTRIP",
    "KVM_SET_CLOCK takes the structure that KVM_GET_CLOCK returned, and advances the clock by what CLOCK_REALTIME counted "
      + "since.",
    sources: [.api("4.30 KVM_SET_CLOCK"), .commit("Linux c68dc1b577ea (5.16)")],
    method:
      "KVM_GET_CLOCK, a pause, KVM_SET_CLOCK with the whole structure; CLOCK_REALTIME before and after.",
    scenarios: [.setClockRealtime],
    coverage: [
      .observations(4, "first values after KVM_SET_CLOCK took what KVM_GET_CLOCK returned"),
      .everyVCPU("vCPUs that read after a setting"),
    ], needs: [.masterClock, .clockDetails]
  ) { timeline, findings in
    for machine in timeline.machines {
      var returned: ClockRecord?
      for step in machine.steps {
        switch step.event.action {
        case .getClock(let record):
          returned = record
          if !record.hasRealtime {
            findings.lacks("KVM_GET_CLOCK returned flags \(Hex(record.flags)): no realtime (4)")
          }
        case .setClockRefused(let record, let error)
        where record.hasRealtime && returned.map(record.isSame(as:)) == true:
          findings.expect(
            false, at: [step.event],
            "success for the structure that KVM_GET_CLOCK returned: \(record.description)",
            seen: error.description)
        default: continue
        }
      }
    }
    for setting in timeline.settings
    where setting.record.hasRealtime && setting.returned.map(setting.record.isSame(as:)) == true {
      findings.expectMovedOn(setting, in: timeline)
    }
  }

  static let setclockRealtimeFwd = Rule(
    "SETCLOCK-REALTIME-FWD",
    "With KVM_CLOCK_REALTIME, KVM_SET_CLOCK adds to the value given what CLOCK_REALTIME counted since realtime, on every "
      + "vCPU.",
    sources: [
      .api("4.30 KVM_SET_CLOCK (\"The difference in elapsed time is added\")"),
      .commit("Linux c68dc1b577ea (5.16)"),
    ],
    method:
      "A realtime of some minutes, a millisecond, no time and months ago; CLOCK_REALTIME before and after the call. If "
      + "it was stepped meanwhile, the setting is not judged.",
    scenarios: [.setClockRealtime],
    coverage: [
      .observations(6, "first values after settings with a realtime in the past"),
      .different(2, "realtimes"), .everyVCPU("vCPUs that read after a setting"),
    ], needs: [.clockDetails]
  ) { timeline, findings in
    findings.lacksRealtime(timeline)
    for setting in timeline.settings where setting.record.hasRealtime {
      findings.expectMovedOn(setting, in: timeline)
    }
  }

  static let setclockRealtimeNoBack = Rule(
    "SETCLOCK-REALTIME-NOBACK",
    "A realtime in the future takes nothing off the clock: every vCPU's reading goes on from the value given.",
    sources: [
      .commit(
        "Linux c68dc1b577ea (5.16): \"Do not step the KVM clock backwards, though, as it is a monotonic oscillator\""
      )
    ],
    method:
      "A realtime of a minute, a year and centuries ahead; CLOCK_REALTIME before and after.",
    scenarios: [.setClockRealtime],
    coverage: [
      .observations(6, "first values after settings with a realtime in the future"),
      .different(2, "realtimes"), .everyVCPU("vCPUs that read after a setting"),
    ], needs: [.clockDetails]
  ) { timeline, findings in
    findings.lacksRealtime(timeline)
    for setting in timeline.settings where setting.record.hasRealtime {
      guard let real = timeline.realtime(around: setting.index) else { continue }
      if let step = real.step {
        findings.cannotTell(step)
        continue
      }
      let record = setting.record
      guard Int128(record.realtime) > Int128(max(real.from, real.to)) + real.unnoticed else {
        continue
      }
      for first in setting.first {
        let counts = findings.expectValue(
          record.clock, since: setting.event, at: first, in: timeline,
          why:
            "CLOCK_REALTIME was \(real.to) ns, before realtime (\(record.realtime) ns): only the time since "
            + "KVM_SET_CLOCK counts")
        if counts { findings.cover(first, after: setting) }
      }
    }
  }
}

extension ClockRecord {
  /// Whether both hold the same, but for the reserved words.
  fileprivate func isSame(as other: ClockRecord) -> Bool {
    (clock, flags, realtime, hostTSC) == (other.clock, other.flags, other.realtime, other.hostTSC)
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

  fileprivate mutating func cover(_ first: Observation, after setting: Setting) {
    cover("\(setting.record.realtime)", of: "realtimes")
    cover(vcpu: first.vcpu, of: "vCPUs that read after a setting")
  }

  /// After a setting with a realtime in the past: the value, plus what CLOCK_REALTIME counted since, plus the time since
  /// the call.
  fileprivate mutating func expectMovedOn(_ setting: Setting, in timeline: Timeline) {
    guard let real = timeline.realtime(around: setting.index) else { return }
    if let step = real.step { return cannotTell(step) }
    let record = setting.record
    guard Int128(record.realtime) <= Int128(min(real.from, real.to)) - real.unnoticed else {
      return
    }
    for first in setting.first {
      let since = timeline.allowedAdvance(since: setting.event, at: first)
      let counts = expect(
        difference(first.value, record.clock &+ (real.from &- record.realtime)),
        in: Interval(
          since.lower - real.unnoticed,
          since.upper + difference(real.to, real.from) + real.unnoticed),
        limit: Timeline.widestUseful, at: [real.before, setting.event, real.after, first.event],
        "\(first.name) less the value set (\(record.clock) ns) and less CLOCK_REALTIME before the call (\(real.from) ns) "
          + "less realtime (\(record.realtime) ns)",
        why: "the time that CLOCK_REALTIME counted during the call, and the time since")
      if counts { cover(first, after: setting) }
    }
  }
}

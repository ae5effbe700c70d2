internal import PVClock

// vCPUs that run while the clock changes, and that nothing but the change takes out of the guest.

extension Rule {
  static let whileRunning: [Rule] = [
    .setclockReachesRunning, .stableReachesRunning, .runningOnePair,
  ]

  static let setclockReachesRunning = Rule(
    "SETCLOCK-REACHES-RUNNING",
    "KVM_SET_CLOCK reaches vCPUs that run: after it returned, no vCPU reads a record from before it, even if nothing else "
      + "takes that vCPU out of the guest.",
    sources: [
      .api("4.30 KVM_SET_CLOCK"),
      .x86("kvm_start_pvclock_update() (\"no guest entries from this point\")"),
    ],
    method:
      "Every vCPU reads its record in ring 3 without pause and keeps the first and the last TSC of each version. The host "
      + "sets the clock hours on. The last reading of each version is later than the end of the newest call before it, by "
      + "the host's TSC: it has to show that call's value, plus the time since.",
    scenarios: [.running],
    coverage: [
      .count(8, "calls that a vCPU read before and after"),
      .everyVCPU("vCPUs that read before and after a call"),
      .observations(8, "last readings of a version, after a call"),
    ], needs: [.twoCPUs]
  ) { timeline, findings in
    for machine in timeline.machines {
      let settings = machine.settings
      for watch in findings.watches(of: machine, in: timeline) {
        let during = settings.filter { watch.event.began.tsc < $0.event.began.tsc }
        for setting in during where watch.isAround(setting.event) {
          findings.cover(vcpu: watch.vcpu, of: "vCPUs that read before and after a call")
          findings.count("calls that a vCPU read before and after")
        }
        for stretch in watch.stretches {
          let tsc = stretch.lastTSC
          guard let newest = during.last(where: { $0.event.ended.tsc < tsc }),
            !newest.record.hasRealtime
          else { continue }
          // While the next call is under way, its value may show as well.
          let isOfNext = during.contains {
            $0.event.isUnderWay(at: tsc)
              && ($0.record.hasRealtime
                || timeline.allowed(stretch, of: watch, since: $0.event)
                  .contains(difference(stretch.last, $0.record.clock)))
          }
          if isOfNext { continue }
          let cycles = Int128(tsc) - Int128(newest.event.ended.tsc)
          findings.expect(
            difference(stretch.last, newest.record.clock),
            in: timeline.allowed(stretch, of: watch, since: newest.event),
            at: [newest.event, watch.event],
            "vcpu\(watch.vcpu)'s reading of version \(stretch.page.version), \(cycles) cycles after KVM_SET_CLOCK returned, "
              + "less the value set (\(newest.record.clock) ns)",
            why: "the time from the call to the end of the vCPU's loop")
        }
      }
    }
  }

  static let stableReachesRunning = Rule(
    "STABLE-REACHES-RUNNING",
    "The master clock goes and comes for vCPUs that run, too: once the boot vCPU has read its record after it changed "
      + "between the old MSR and the new one, all others read the same bit 0, even if nothing else takes them out of the "
      + "guest.",
    sources: [
      .msr("flags bit 0"),
      .x86("pvclock_update_vm_gtod_copy() (\"Update that master copy in lockstep\")"),
    ],
    method:
      "vCPU 1 reads its record in ring 3 without pause. vCPU 0 goes to the old MSR and back, and reads at once each time. "
      + "Until its next entry vCPU 1's readings have the bit 0 that vCPU 0's has.",
    scenarios: [.running],
    coverage: [
      .each(["set", "clear"], "bits 0 that a running vCPU read"),
      .observations(4, "versions read after the boot vCPU changed its MSR"),
    ], needs: [.masterClock, .twoCPUs]
  ) { timeline, findings in
    for machine in timeline.machines {
      let spans = machine.spansOfBootMSR
      for watch in findings.watches(of: machine, in: timeline) where watch.vcpu != 0 {
        for stretch in watch.stretches {
          for span in spans where span.covers(stretch) {
            findings.expectStable(
              span.isStable, in: stretch.page, of: watch.vcpu, at: [span.reading, watch.event],
              why: "vcpu0 read it so before")
            findings.cover(span.isStable ? "set" : "clear", of: "bits 0 that a running vCPU read")
          }
        }
      }
    }
  }

  static let runningOnePair = Rule(
    "RUNNING-ONE-PAIR",
    "With bit 0 set, vCPUs that run side by side never read records of two different pairs of system_time and "
      + "tsc_timestamp at the same time.",
    sources: [
      .x86(
        "pvclock_update_vm_gtod_copy() (\"do not allow visibility of distinct "
          + "system_timestamp/tsc_timestamp values simultaneously\")"),
      .guest("Linux, arch/x86/kernel/pvclock.c, pvclock_clocksource_read(), which trusts bit 0"),
    ],
    method:
      "All vCPUs read their own records in ring 3 without pause, and keep the first and the last TSC of each version, "
      + "while the host sets the clock. Where two vCPUs' versions overlap in the host's TSC, both have one pair.",
    scenarios: [.running],
    coverage: [
      .observations(8, "versions of two vCPUs that overlap in time"), .different(2, "readers"),
    ], needs: [.masterClock, .twoCPUs]
  ) { timeline, findings in
    for machine in timeline.machines {
      let watches = findings.watches(of: machine, in: timeline)
      for (place, one) in watches.enumerated() {
        for other in watches[..<place] where other.vcpu != one.vcpu {
          findings.expectOnePair(one, other)
        }
      }
    }
  }
}

extension Timeline {
  /// What the last reading of a version may show less the value set: it was made after the call had begun, and before
  /// the vCPU's loop was over.
  fileprivate func allowed(
    _ stretch: HostStretch, of watch: OwnWatch, since set: Event
  ) -> Interval {
    let elapsed = set.elapsed(to: watch.event).upper
    let slack = share(rateBound, of: elapsed) + rounding
    let lead = stretch.page.flags.contains(.tscStable) ? 0 : watch.event.width
    return Interval(-slack, elapsed + slack + lead)
  }
}

/// What a vCPU kept of its own record while it ran, by the host's TSC.
private struct OwnWatch {
  var vcpu: Int
  var event: Event
  /// Cycles that the vCPU's TSC is ahead of the host's.
  var offset: UInt64
  var stretches: [HostStretch]

  /// Whether it read both before the other event began and after it ended.
  func isAround(_ other: Event) -> Bool {
    stretches.contains { $0.firstTSC < other.began.tsc }
      && stretches.contains { $0.lastTSC > other.ended.tsc }
  }
}

/// A stretch between two readings of the host's TSC.
private struct HostStretch {
  var page: ClockPage
  var firstTSC, lastTSC: UInt64
  /// The clock's value at the last reading.
  var last: UInt64
}

/// From the end of the event in which the boot vCPU read its new record to its next entry.
private struct BootSpan {
  var reading: Event
  var isStable: Bool
  var end: UInt64?

  /// Whether the version was read in this span, or both before and after it.
  func covers(_ stretch: HostStretch) -> Bool {
    guard let end else { return false }
    return reading.ended.tsc < stretch.lastTSC && stretch.firstTSC < end
  }
}

extension Event {
  fileprivate func isUnderWay(at tsc: UInt64) -> Bool { began.tsc <= tsc && tsc <= ended.tsc }
}

extension MachineRun {
  fileprivate var settings: [(event: Event, record: ClockRecord)] {
    steps.compactMap { step in
      guard case .setClock(let record) = step.event.action else { return nil }
      return (step.event, record)
    }
  }

  /// What the boot vCPU read right after it changed between the two MSRs.
  fileprivate var spansOfBootMSR: [BootSpan] {
    var spans: [BootSpan] = []
    var change: Event?
    for step in steps {
      let event = step.event
      if let open = spans.last, open.end == nil, event.mayChangeMasterClock,
        event.began.tsc > open.reading.began.tsc
      {
        spans[spans.count - 1].end = event.began.tsc
      }
      if event.actor == .vcpu(0), let write = step.systemTimeWrite {
        change = step.before.systemTime.map { $0.isOldMSR != write.isOldMSR } == true ? event : nil
      }
      guard case .read(_, _, let reading, settled: true) = event.action, event.actor == .vcpu(0),
        let change, change.began == event.began
      else { continue }
      spans.append(
        BootSpan(reading: event, isStable: reading.page.flags.contains(.tscStable)))
    }
    return spans
  }
}

extension Event {
  /// Whether the master clock may go or come in it.
  fileprivate var mayChangeMasterClock: Bool {
    switch action {
    case .setClock, .hostChanged, .vcpuCreated, .replugged: true
    default: actor == .vcpu(0)
    }
  }
}

extension Findings {
  /// The loops in which a vCPU kept what it saw of its own record.
  ///
  /// The host's TSC is one for all CPUs where the host's clocks run on it.
  fileprivate mutating func watches(of machine: MachineRun, in timeline: Timeline) -> [OwnWatch] {
    var found: [OwnWatch] = []
    for step in machine.steps {
      guard case .watched(_, let owner, let address, let result) = step.event.action,
        step.event.actor == .vcpu(owner), step.after.record == address.value
      else { continue }
      guard timeline.isTSC else {
        lacks("the host's clocks do not run on the TSC: its CPUs' TSCs may be apart")
        continue
      }
      guard timeline.isUnscaled(step.after), let offset = step.after.tscOffset else {
        lacks("the TSC offset of vcpu\(owner) is not known")
        continue
      }
      found.append(
        OwnWatch(
          vcpu: owner, event: step.event, offset: offset,
          stretches: result.stretches.map {
            HostStretch(
              page: $0.page, firstTSC: $0.firstTSC &- offset, lastTSC: $0.lastTSC &- offset,
              last: $0.last)
          }))
    }
    return found
  }

  fileprivate mutating func expectOnePair(_ one: OwnWatch, _ other: OwnWatch) {
    for stretch in one.stretches where stretch.page.flags.contains(.tscStable) {
      for beside in other.stretches where beside.page.flags.contains(.tscStable) {
        let from = max(stretch.firstTSC, beside.firstTSC)
        let to = min(stretch.lastTSC, beside.lastTSC)
        guard from < to else { continue }
        let timestamps = (
          stretch.page.tscTimestamp &- one.offset, beside.page.tscTimestamp &- other.offset
        )
        expect(
          timestamps.0 == timestamps.1 && stretch.page.systemTime == beside.page.systemTime,
          at: [one.event, other.event],
          "one pair on vcpu\(one.vcpu) and vcpu\(other.vcpu) from host TSC \(from) to \(to): system_time "
            + "\(stretch.page.systemTime) at host TSC \(timestamps.0)",
          seen:
            "vcpu\(other.vcpu)'s system_time \(beside.page.systemTime) at host TSC \(timestamps.1), for "
            + "\(to - from) cycles")
        for vcpu in [one.vcpu, other.vcpu] { cover(vcpu: vcpu, of: "readers") }
      }
    }
  }
}

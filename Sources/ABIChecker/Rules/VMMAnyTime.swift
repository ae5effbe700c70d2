internal import PVClock

// What a guest may rely on under any VMM, whatever it does with the machine.

extension Rule {
  static let vmmAnyTime: [Rule] = [
    .vmmNeverBack, .vmmTSCNeverBack, .vmmOneClock, .vmmTSCAlike, .vmmKeepsRate, .vmmKeepsStable,
    .vmmStoppedOnlyThen, .vmmClockRuns, .vmmRewriteKeepsTime, .vmmStartsDisabled,
    .vmmSurvives,
  ]

  static let samplingMethod =
    "Every vCPU reads its record without pause, and keeps the largest step back since it was asked last; ask before and after "
    + "each thing that the VMM does."

  static let vmmNeverBack = Rule(
    "VMM-NEVER-BACK",
    "No vCPU sees its clock go back while bit 0 is set, whatever the VMM does: a guest that is restored or migrated goes on from "
      + "what it saw last, and none runs before its clock is set.",
    sources: [
      .document("Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW, flags, bit 0"),
      .guest("Linux, arch/x86/kernel/pvclock.c: CLOCK_MONOTONIC of a guest must not go back"),
    ], method: samplingMethod, scenarios: ScenarioName.ofVMMs,
    coverage: [.observations(2, "stretches of readings")]
  ) { timeline, findings in
    for passage in timeline.passages {
      for (vcpu, answer) in passage.after.sorted(by: { $0.key < $1.key }) {
        let result = answer.result
        guard result.reads > 1, result.pages.allSatisfy({ $0.flags.contains(.tscStable) }) else {
          continue
        }
        findings.expect(
          result.backwards == 0, at: passage.verbs + [answer.event],
          "no reading of vcpu\(vcpu) below the one before, in \(result.reads)",
          seen: "\(result.backwards) below, the worst by \(nanoseconds(-Int128(result.worst))): "
            + "\(result.worstBefore) ns at TSC \(result.worstBeforeTSC), then "
            + "\(result.worstAfter.value) ns at TSC \(result.worstAfter.tsc)")
      }
    }
  }

  static let vmmTSCNeverBack = Rule(
    "VMM-TSC-NEVER-BACK",
    "No vCPU sees its TSC go back while it runs: a guest that is restored or migrated goes on from its TSC or above.",
    sources: [
      .guest("Linux, arch/x86/kernel/tsc_sync.c: a TSC that goes back is no clocksource"),
      .document("Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_OFFSET (migration)"),
    ], method: samplingMethod, scenarios: ScenarioName.ofVMMs,
    coverage: [.observations(2, "stretches of readings")]
  ) { timeline, findings in
    for passage in timeline.passages {
      for (vcpu, answer) in passage.after.sorted(by: { $0.key < $1.key }) {
        findings.expect(
          answer.result.tscBackwards == 0, at: passage.verbs + [answer.event],
          "no TSC of vcpu\(vcpu) below the one before, in \(answer.result.reads) readings",
          seen: "\(answer.result.tscBackwards) below")
      }
    }
  }

  static let vmmOneClock = Rule(
    "VMM-ONE-CLOCK",
    "With bit 0 set all vCPUs have one clock, also after a restore, a migration or a plug: what one reads lies between what "
      + "vCPU 0 reads before and after.",
    sources: [
      .document("Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW, flags, bit 0")
    ],
    method:
      "vCPU 0 notes its TSC, asks through memory, and notes its TSC when it sees the answer; compare the other vCPU's clock "
      + "with vCPU 0's record at both.",
    scenarios: ScenarioName.ofVMMs, coverage: [.observations(2, "answers of other vCPUs")]
  ) { timeline, findings in
    for passage in timeline.passages {
      for (vcpu, first, answer) in passage.beside {
        findings.expectOneClock(vcpu, answer, beside: first, timeline)
      }
    }
  }

  static let vmmTSCAlike = Rule(
    "VMM-TSC-ALIKE",
    "With bit 0 set the vCPUs' TSCs are alike, also after a restore, a migration or a plug: what one reads lies between what "
      + "vCPU 0 reads before and after.",
    sources: [
      .document("Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW, flags, bit 0"),
      .commit("Linux b48aa97e3820 (3.8)"),
    ], method: "As for VMM-ONE-CLOCK; compare the TSCs.", scenarios: ScenarioName.ofVMMs,
    coverage: [.observations(2, "answers of other vCPUs")]
  ) { timeline, findings in
    for passage in timeline.passages {
      for (vcpu, first, answer) in passage.beside {
        let result = answer.result
        let since = difference(result.last.tsc, result.asked)
        findings.expect(
          0 <= since && since <= difference(result.seen, result.asked),
          at: [first.event, answer.event],
          "vcpu\(vcpu)'s TSC between \(result.asked) and \(result.seen), vcpu0's before and after",
          seen:
            "\(result.last.tsc), \(since < 0 ? "\(-since) cycles too low" : "\(difference(result.last.tsc, result.seen)) cycles too high")"
        )
      }
    }
  }

  static let vmmKeepsRate = Rule(
    "VMM-KEEPS-RATE",
    "tsc_to_system_mul and tsc_shift stay the same, whatever the VMM does on one host: the guest's TSC keeps its frequency.",
    sources: [
      .guest("Linux reads them once at boot (kvm_get_tsc_khz) and calibrates its TSC by them"),
      .document("Documentation/virt/kvm/api.rst, 4.55 KVM_SET_TSC_KHZ"),
    ], method: samplingMethod, scenarios: ScenarioName.ofVMMs,
    coverage: [.observations(2, "records before and after")]
  ) { timeline, findings in
    for passage in timeline.passages {
      for (vcpu, before, after) in passage.both {
        for page in after.result.pages where page.tscToSystemMultiplier != 0 {
          findings.expect(
            page.scale == before.page.scale, at: [before.event] + passage.verbs + [after.event],
            "vcpu\(vcpu)'s multiplier \(Hex(before.page.tscToSystemMultiplier)) and shift "
              + "\(before.page.tscShift), as before",
            seen: "\(Hex(page.tscToSystemMultiplier)) and \(page.tscShift)")
        }
      }
    }
  }

  static let vmmKeepsStable = Rule(
    "VMM-KEEPS-STABLE",
    "A record with bit 0 has it again after whatever the VMM does: the TSCs still match, and guests go on without a lock around "
      + "their clock.",
    sources: [
      .guest("Linux, arch/x86/kernel/kvmclock.c: the vDSO reads the clock only while bit 0 is set"),
      .commit("Linux b48aa97e3820 (3.8)"),
    ], method: samplingMethod, scenarios: ScenarioName.ofVMMs,
    coverage: [.observations(2, "records before and after")]
  ) { timeline, findings in
    for passage in timeline.passages where passage.writes.isEmpty {
      for (vcpu, before, after) in passage.both where before.isStable {
        findings.expectStable(
          true, in: after.page, of: vcpu, at: [before.event] + passage.verbs + [after.event],
          why: "it was before")
      }
    }
  }

  static let vmmStoppedOnlyThen = Rule(
    "VMM-STOPPED-ONLY-THEN",
    "PVCLOCK_GUEST_STOPPED, once the guest has cleared it, is set only for a guest that was stopped: by a pause, a restore or a "
      + "migration.",
    sources: [.document("Documentation/virt/kvm/api.rst, 4.70 KVM_KVMCLOCK_CTRL")],
    method:
      "The guest clears the flag in all records; ask again without a stop, and after a reset and a plug.",
    scenarios: ScenarioName.ofVMMs, coverage: [.observations(2, "records before and after")]
  ) { timeline, findings in
    for passage in timeline.passages where !passage.isStopped {
      for (vcpu, before, after) in passage.both where !before.isStopped {
        let wasTold = after.result.pages.contains { $0.flags.contains(.guestStopped) }
        findings.expect(
          !wasTold, at: [before.event] + passage.verbs + [after.event],
          "PVCLOCK_GUEST_STOPPED clear in vcpu\(vcpu)'s record: nobody stopped it", seen: "set")
      }
    }
  }

  static let vmmClockRuns = keepsTime(
    "VMM-CLOCK-RUNS",
    "While the VMM does nothing with a guest, whatever it does with another one, and when it is asked to resume one that runs, the "
      + "guest's clock advances by what CLOCK_MONOTONIC_RAW counts.",
    method:
      "Ask all vCPUs, and again later; the same with another guest that is paused and migrated meanwhile; resume a guest that runs.",
    scenarios: ScenarioName.ofVMMs
  ) { $0.writes.isEmpty && $0.verbs.allSatisfy { $0.vmm?.verb == .resume } }

  static let vmmRewriteKeepsTime = keepsTime(
    "VMM-REWRITE-KEEPS-TIME",
    "A guest under a VMM may write the system-time MSR, the old one too, as often as it likes, on every vCPU; system time carries "
      + "on without a restart or a step.",
    method: "Every vCPU registers its record again and again, by the new MSR and by the old one.",
    scenarios: [.vmmRun], coverage: [.each(["0x12", "0x4b564d01"], "MSRs written")],
    passages: { $0.rewrites }, matches: { _ in true })

  static let vmmStartsDisabled = Rule(
    "VMM-STARTS-DISABLED",
    "A vCPU that starts again, after a reset or when it is plugged again, does not find its record enabled by what the guest wrote "
      + "before: KVM writes into no memory of whatever boots next.",
    sources: [
      .document("Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW (bit 0 enables)"),
      .guest(
        "Linux, arch/x86/kernel/kvmclock.c: kvmclock_disable() before a kexec, since the record's memory gets another use"
      ),
    ],
    method:
      "Each vCPU reads MSR_KVM_SYSTEM_TIME_NEW when it starts, before it registers its record; reset; unplug and plug.",
    scenarios: [.vmmReset, .vmmHotplug],
    coverage: [.observations(1, "vCPUs that started again")]
  ) { timeline, findings in
    var written: [Int: [Int: (event: Event, value: Hex)]] = [:]
    // The machines whose vCPUs, or one of them, may have started again since the guest wrote.
    var restarted: Set<Int> = []
    for event in timeline.history.events {
      let machine = event.machine ?? 0
      if case (let verb, nil)? = event.vmm, [.reset, .plug].contains(verb) {
        restarted.insert(machine)
      }
      guard case .vcpu(let vcpu) = event.actor else { continue }
      switch event.action {
      case .wroteMSR(let msr, let value, nil) where MSR.isSystemTime(msr):
        written[machine, default: [:]][vcpu] = (event, value)
      case .readMSR(let msr, let value, nil) where MSR.isSystemTime(msr):
        guard restarted.contains(machine), let (write, wrote) = written[machine]?[vcpu],
          wrote.value & 1 == 1
        else { continue }
        findings.expect(
          value != wrote, at: [write, event],
          "MSR_KVM_SYSTEM_TIME_NEW of vcpu\(vcpu) at its start is not \(wrote), as the guest wrote it before",
          seen: "\(value)")
      default: break
      }
    }
  }

  static let vmmSurvives = Rule(
    "VMM-SURVIVES",
    "Nothing that the VMM of a running guest is asked for ends it or leaves it without an answer; what it cannot do it refuses.",
    sources: [.guest("every guest: one whose VMM ends is lost")],
    method: "Ask for everything; note what comes back.",
    scenarios: ScenarioName.ofVMMs.filter { $0 != .vmmRun },
    coverage: [.observations(1, "things asked for")]
  ) { timeline, findings in
    for event in timeline.history.events {
      guard let (verb, failure) = event.vmm, verb != .start, verb != .quit else { continue }
      let trouble: String? =
        switch failure {
        case .ended(let how)?: how
        case .silent(let about)?: about
        case .refused?, nil: nil
        }
      findings.expect(
        trouble == nil, at: [event], "\(verb.rawValue): done or refused", seen: trouble ?? "")
    }
  }

  /// A guest's clock runs through whatever `matches`.
  static func keepsTime(
    _ id: String, _ statement: String, method: String, scenarios: [ScenarioName],
    coverage: [Coverage] = [],
    passages: @escaping @Sendable (Timeline) -> [Passage] = { $0.passages },
    matches: @escaping @Sendable (Passage) -> Bool
  ) -> Rule {
    Rule(
      id, statement,
      sources: [
        .document("Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW (system_time)"),
        .guest("Linux, arch/x86/kernel/kvmclock.c: CLOCK_MONOTONIC follows it"),
      ], method: method, scenarios: scenarios,
      coverage: [.observations(2, "advances")] + coverage
    ) { timeline, findings in
      for passage in passages(timeline) where matches(passage) {
        var counts = false
        for (vcpu, before, after) in passage.clocks {
          counts =
            findings.expectAdvance(of: vcpu, from: before, to: after, in: passage, timeline)
            || counts
        }
        guard counts else { continue }
        for write in passage.writes {
          if case .wroteMSR(let msr, _, _) = write.action {
            findings.cover("\(msr)", of: "MSRs written")
          }
        }
      }
    }
  }
}

extension Passage {
  /// Each vCPU that answered both times, with its answers.
  var both: [(vcpu: Int, before: Answer, after: Answer)] {
    vcpus.map { ($0, before[$0]!, after[$0]!) }
  }

  /// Those whose records have bit 0: any other one may run ahead of the clock, nobody knows how far.
  var clocks: [(vcpu: Int, before: Answer, after: Answer)] {
    both.filter { $0.before.isStable && $0.after.isStable }
  }

  /// The other vCPUs' answers beside vCPU 0's, where both have bit 0.
  var beside: [(vcpu: Int, first: Answer, answer: Answer)] {
    guard let first = after[0], first.isStable else { return [] }
    return after.sorted { $0.key < $1.key }.compactMap { vcpu, answer in
      vcpu != 0 && answer.isStable ? (vcpu, first, answer) : nil
    }
  }

  /// What the clock of a vCPU may have advanced by.
  ///
  /// - Parameter clock: what it does while the guest is stopped.
  func allowedAdvance(
    from before: Answer, to after: Answer, _ clock: ClockPolicy, _ timeline: Timeline
  ) -> Interval {
    let elapsed = before.event.elapsed(to: after.event)
    let allowed =
      clock == .runsOn
      ? elapsed
      : Interval(max(0, elapsed.lower - stop.upper), max(0, elapsed.upper - stop.lower))
    return allowed.widened(by: timeline.slack(until: after.event))
  }
}

extension Findings {
  /// What another vCPU reads lies between what vCPU 0's record says of the TSCs before and after.
  mutating func expectOneClock(
    _ vcpu: Int, _ answer: Passage.Answer, beside first: Passage.Answer, _ timeline: Timeline
  ) {
    // A record that was written after the question says nothing of the time before.
    guard difference(answer.result.asked, first.page.tscTimestamp) >= 0 else { return }
    let slack = answer.page.hasSamePair(as: first.page) ? 0 : timeline.slack(until: answer.event)
    let asked = first.page.systemTime(atTSC: answer.result.asked)
    let seen = first.page.systemTime(atTSC: answer.result.seen)
    expect(
      difference(answer.result.last.value, asked),
      in: Interval(-slack, difference(seen, asked) + slack), limit: Timeline.widestUseful,
      at: [first.event, answer.event],
      "vcpu\(vcpu)'s clock less vcpu0's when it asked (\(asked) ns)",
      why: "vcpu0's clock went on by so much until it saw the answer")
  }

  /// One clock runs through a passage.
  ///
  /// - Returns: whether it counted.
  mutating func expectAdvance(
    of vcpu: Int, from before: Passage.Answer, to after: Passage.Answer, in passage: Passage,
    _ timeline: Timeline
  ) -> Bool {
    expect(
      difference(after.result.last.value, before.result.last.value),
      in: passage.allowedAdvance(from: before, to: after, .runsOn, timeline),
      limit: max(Timeline.widestUseful, before.event.elapsed(to: after.event).lower / 2),
      at: [before.event] + passage.verbs + passage.writes + [after.event],
      "the advance of vcpu\(vcpu)'s clock from \(nanoseconds(Int128(before.result.last.value)))",
      why: "the time that CLOCK_MONOTONIC_RAW counted")
  }
}

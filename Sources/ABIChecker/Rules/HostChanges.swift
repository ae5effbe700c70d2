internal import PVClock

// What a guest sees when the host changes under it. The scenarios run on scratch hosts only.

extension Rule {
  static let hostChanges: [Rule] = [
    .stableLostClocksource, .clocksourceSwitchKeepsTime, .stableBackOnTSC, .setclockNontsc,
    .rateNotNTP, .rateBoottime, .suspendNotRefused, .suspendStoppedFlag, .suspendInactiveNoflag,
    .periodicSync,
  ]

  static let stableLostClocksource = Rule(
    "STABLE-LOST-CLOCKSOURCE",
    "When the host's clocksource goes from tsc to one that is none, bit 0 is clear in every record after the vCPU's "
      + "next entries, and KVM_GET_CLOCK says no KVM_CLOCK_TSC_STABLE.",
    source: "arch/x86/kvm/x86.c, pvclock_gtod_notify(), pvclock_update_vm_gtod_copy()",
    method:
      "Switch the clocksource through sysfs, enter for up to 5 s until bit 0 is clear; then look at all records.",
    scenarios: [.clocksourceSwitch],
    faults: ["a record whose bit 0 stays set", "pvclock_gtod_notify() that notices nothing"]
  ) { $0.flags(onClocksource: { $0 != "tsc" }, stable: false) }

  static let stableBackOnTSC = Rule(
    "STABLE-BACK-ON-TSC",
    "When the host's clocksource is tsc again, the next KVM_SET_CLOCK brings bit 0 back to every record and "
      + "KVM_CLOCK_TSC_STABLE to KVM_GET_CLOCK.",
    source: "arch/x86/kvm/x86.c, kvm_vm_ioctl_set_clock(), pvclock_update_vm_gtod_copy()",
    method: "Switch to another clocksource and back, set the clock, enter, look.",
    scenarios: [.clocksourceSwitch], faults: ["a record whose bit 0 stays clear"]
  ) { $0.flags(onClocksource: { $0 == "tsc" }, stable: true) }

  static let clocksourceSwitchKeepsTime = Rule(
    "CLOCKSOURCE-SWITCH-KEEPS-TIME",
    "A switch of the host's clocksource neither stops, restarts nor steps a guest's clock, also on a vCPU that reads it "
      + "all the while.",
    source: "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW, system_time",
    method:
      "Read on both vCPUs before and after the switch, one of them in a loop meanwhile; compare with "
      + "CLOCK_MONOTONIC_RAW.",
    scenarios: [.clocksourceSwitch],
    faults: ["a clock that restarts, or loses 20 ms, in the switch"]
  ) { timeline in
    var findings = Findings()
    let events = timeline.history.events
    let readings = timeline.observations.filter {
      if case .read = events[$0.index].action { true } else { false }
    }
    for event in events {
      if case .hostChanged("clocksource", _, nil) = event.action {
        for vcpu in [0, 1] {
          guard
            let before = readings.last(where: {
              $0.vcpu == vcpu && $0.event.ended.raw <= event.began.raw
            })
          else { continue }
          let after = readings.filter {
            $0.vcpu == vcpu && $0.event.began.raw >= event.ended.raw && $0.epoch == before.epoch
          }
          // The first one, and one of a newer record.
          for after in after.prefix(2) {
            findings.expect(
              difference(after.value, before.value),
              in: timeline.allowedAdvance(from: before, to: after), limit: Timeline.widestUseful,
              at: [before.event, event, after.event],
              "vcpu\(vcpu)'s clock to go on from \(nanoseconds(Int128(before.value))) by an amount",
              why: "the time that CLOCK_MONOTONIC_RAW counted between the two readings")
          }
        }
      }
      // Where bit 0 comes back a reading without it, which may run ahead, is the one before.
      if case .looped(_, let result) = event.action, result.first.page.flags.contains(.tscStable) {
        findings.expect(
          result.backwards == 0, at: [event],
          "no step back among the \(result.reads) readings that have bit 0 set",
          seen: describeSteps(result))
      }
    }
    return findings.outcome(
      atLeast: 4, "readings on both sides of a switch, and loops across it", in: timeline)
  }

  static let setclockNontsc = Rule(
    "SETCLOCK-NONTSC",
    "KVM_SET_CLOCK sets the clock of every vCPU also while the host's clocksource is no TSC.",
    source: "Documentation/virt/kvm/api.rst, 4.30 KVM_SET_CLOCK",
    method: "Set a seeded value after the switch; each vCPU reads.",
    scenarios: [.clocksourceSwitch], faults: ["a reading 20 ms below the value set"]
  ) { timeline in
    var findings = Findings()
    var clocksource = "tsc"
    var setting: (event: Event, value: UInt64)?
    for (index, event) in timeline.history.events.enumerated() {
      switch event.action {
      case .hostChanged("clocksource", let name, nil): (clocksource, setting) = (name, nil)
      case .setClock(let record): setting = (event, record.clock)
      default: break
      }
      guard clocksource != "tsc", let (set, value) = setting,
        let reading = timeline.observations.first(where: { $0.index == index }),
        reading.vcpu != nil
      else { continue }
      let elapsed = set.elapsed(to: reading.event)
      let slack = share(timeline.rateBound, of: elapsed.upper) + timeline.rounding
      findings.expect(
        difference(reading.value, value),
        in: Interval(max(0, elapsed.lower - slack), elapsed.upper + slack + reading.lead),
        limit: Timeline.widestUseful, at: [set, event],
        "vcpu\(reading.vcpu ?? 0)'s reading less the value set (\(value) ns)",
        why: "the time that CLOCK_MONOTONIC_RAW counted since KVM_SET_CLOCK")
    }
    return findings.outcome(atLeast: 2, "readings after a setting", in: timeline)
  }

  static let rateNotNTP = Rule(
    "RATE-NOT-NTP",
    "NTP's slewing of the host's clocks does not reach kvmclock: it goes on with CLOCK_MONOTONIC_RAW, in master-clock "
      + "mode, over a new snapshot, and without the master clock.",
    source: "Linux 53fafdbb8b21 (5.5); arch/x86/kvm/x86.c, get_kvmclock_base_ns()",
    method:
      "adjtimex(2) with 500 ppm; read, wait, change between the MSRs, read; CLOCK_MONOTONIC shows "
      + "that the slew took effect.",
    scenarios: [.slew], since: "5.5",
    faults: ["a clock that runs 500 ppm fast", "get_kvmclock_base_ns() from CLOCK_BOOTTIME"]
  ) { timeline in
    var findings = Findings()
    var monotonic: (event: Event, value: UInt64)?
    for event in timeline.history.events {
      guard case .hostClock("CLOCK_MONOTONIC", let value) = event.action else { continue }
      defer { monotonic = (event, value) }
      guard let (earlier, before) = monotonic,
        let (from, to) = timeline.sharpestPair(from: earlier, to: event)
      else { continue }
      let elapsed = earlier.elapsed(to: event)
      let counted = difference(value, before)
      guard counted > elapsed.lower + share(Self.slewSeen, of: elapsed.lower) else {
        findings.lacks("CLOCK_MONOTONIC did not run 400 ppm faster than CLOCK_MONOTONIC_RAW")
        continue
      }
      guard counted > elapsed.upper + share(Self.slewSeen, of: elapsed.upper) else {
        findings.cannotTell(
          "CLOCK_MONOTONIC's readings, \(nanoseconds(elapsed.width)) wide, do not show the slew")
        continue
      }
      let allowed = timeline.allowedAdvance(from: from, to: to)
      findings.expect(
        difference(to.value, from.value), in: allowed,
        limit: share(Self.slewSeen, of: allowed.lower), at: [from.event, to.event],
        "the clock's advance",
        why: "the time that CLOCK_MONOTONIC_RAW counted; CLOCK_MONOTONIC counted "
          + "\(nanoseconds(counted)) from event \(earlier.number) to \(event.number)")
    }
    return findings.outcome(atLeast: 3, "waits while NTP slewed the host's clocks", in: timeline)
  }

  /// So much of the 500 ppm has to be seen, in parts per billion; a clock that is slewed by it lies outside of an
  /// interval that is narrower than it.
  private static let slewSeen: Int128 = 400_000

  static let rateBoottime = Rule(
    "RATE-BOOTTIME",
    "Kvmclock counts the time that the host sleeps, as CLOCK_BOOTTIME does.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW (\"including sleep time\"); "
      + "arch/x86/kvm/x86.c, get_kvmclock_base_ns()",
    method: "Read the clock and CLOCK_BOOTTIME before and after a suspend of the host.",
    scenarios: [.suspend], faults: ["a clock that does not count a sleep of 10 s"]
  ) { timeline in
    var findings = Findings()
    var boot: [(event: Event, value: UInt64)] = []
    for event in timeline.history.events {
      if case .hostClock("CLOCK_BOOTTIME", let value) = event.action { boot.append((event, value)) }
    }
    guard boot.count == 2,
      let before = timeline.observations.last(where: {
        $0.event.ended.raw <= boot[0].event.began.raw
      }),
      let after = timeline.observations.first(where: {
        $0.event.began.raw >= boot[1].event.ended.raw
      })
    else { return findings.outcome("suspends", in: timeline) }
    let awake = boot[0].event.elapsed(to: boot[1].event)
    let asleep = difference(boot[1].value, boot[0].value) - awake.upper
    guard asleep > Timeline.widestUseful else {
      return .notTested(
        reason:
          "the host did not sleep: CLOCK_BOOTTIME went on by \(nanoseconds(difference(boot[1].value, boot[0].value))), "
          + "CLOCK_MONOTONIC_RAW by \(nanoseconds(awake.lower)) to \(nanoseconds(awake.upper))")
    }
    let allowed = timeline.allowedAdvance(from: before, to: after)
    findings.expect(
      difference(after.value, before.value),
      in: Interval(allowed.lower + asleep, allowed.upper + asleep + awake.width),
      at: [before.event, after.event],
      "the clock's advance over the suspend",
      why: "what CLOCK_MONOTONIC_RAW counted, and the time asleep by CLOCK_BOOTTIME")
    return findings.outcome("suspends", in: timeline)
  }

  static let suspendNotRefused = Rule(
    "SUSPEND-NOT-REFUSED",
    "Virtual machines do not keep a host from suspending, whether their guests use kvmclock or not.",
    source: "Linux 7d62874f69d7 (5.14); arch/x86/kvm/x86.c, kvm_arch_suspend_notifier()",
    method:
      "A suspend for test (pm_test freezer) with a machine of which one vCPU has a record, and with one without.",
    scenarios: [.suspend], faults: ["a suspend that fails with EINVAL"]
  ) { timeline in
    var findings = Findings()
    for event in timeline.history.events {
      guard case .hostChanged("suspend", _, let error) = event.action else { continue }
      findings.expect(
        error == nil, at: [event], "no error from the suspend", seen: error?.description ?? "")
    }
    return findings.outcome(atLeast: 2, "suspends for test", in: timeline)
  }

  static let suspendStoppedFlag = Rule(
    "SUSPEND-STOPPED-FLAG",
    "A suspend of the host sets bit 1 (GUEST_STOPPED) in every active record, as after KVM_KVMCLOCK_CTRL.",
    source: "Linux 7d62874f69d7 (5.14); arch/x86/kvm/x86.c, kvm_arch_suspend_notifier()",
    method: "Suspend for test (pm_test freezer), enter, look.",
    scenarios: [.suspend], since: "5.14",
    faults: ["a record without the bit", "kvm_arch_suspend_notifier() that tells nobody"]
  ) { $0.stopped(isActive: true) }

  static let suspendInactiveNoflag = Rule(
    "SUSPEND-INACTIVE-NOFLAG",
    "A vCPU that has no active record when the host suspends gets no bit 1 from it, also in a record that it registers "
      + "later.",
    source: "arch/x86/kvm/x86.c, kvm_arch_suspend_notifier(), kvm_set_guest_paused()",
    method: "Suspend for test (pm_test freezer), enter, register, look.",
    scenarios: [.suspend], faults: ["the bit in a record that was registered after the suspend"]
  ) { $0.stopped(isActive: false) }

  static let periodicSync = Rule(
    "PERIODIC-SYNC",
    "With KVM's parameter kvmclock_periodic_sync every record is updated at least every 300 s.",
    source: "arch/x86/kvm/x86.c, kvmclock_sync_fn(); removed by Linux 43ddbf16edf5 (6.19)",
    method:
      "Enter once a second, ask for nothing, and look until the version moves, for up to 330 s.",
    scenarios: [.periodicSync], faults: ["a version that stands still for 330 s"]
  ) { timeline in
    var findings = Findings()
    let looks = timeline.pages
    if let first = looks.first, let last = looks.last, first.event != last.event {
      let elapsed = first.event.elapsed(to: last.event)
      let hasMoved = first.page.version != last.page.version
      guard hasMoved || elapsed.lower >= 320_000_000_000 else {
        return .notTested(reason: "looked for \(nanoseconds(elapsed.lower)) only")
      }
      findings.expect(
        hasMoved, at: [first.event, last.event],
        "another version than \(first.page.version) after \(nanoseconds(elapsed.lower))",
        seen: "version \(last.page.version)")
    }
    return findings.outcome("spans without a request", in: timeline)
  }
}

extension Timeline {
  /// The two observations between two events that say most of the clock's rate.
  fileprivate func sharpestPair(
    from start: Event, to end: Event
  ) -> (from: Observation, to: Observation)? {
    let between = observations.filter {
      start.number < $0.event.number && $0.event.number < end.number
    }
    func uncertainty(_ one: Observation, _ other: Observation) -> Int128 {
      let allowed = allowedAdvance(from: one, to: other)
      return allowed.width * 1_000_000_000 / max(1, allowed.lower)
    }
    var best: (from: Observation, to: Observation, uncertainty: Int128)?
    for (place, from) in between.enumerated() {
      for to in between[(place + 1)...] where from.epoch == to.epoch {
        let found = uncertainty(from, to)
        if found < best?.uncertainty ?? .max { best = (from, to, found) }
      }
    }
    return best.map { ($0.from, $0.to) }
  }

  /// Bit 0 of every vCPU's last record, and the last `KVM_GET_CLOCK`, while such a clocksource was current after a
  /// switch. After a switch to tsc the clock has to be set first.
  fileprivate func flags(onClocksource matches: (String) -> Bool, stable: Bool) -> Outcome {
    var findings = Findings()
    var isSwitched = false
    var isSet = false
    var settled: [Int: (event: Event, page: ClockPage)] = [:]
    func judge(_ clock: (event: Event, record: ClockRecord)) {
      for (vcpu, (event, page)) in settled.sorted(by: { $0.key < $1.key }) {
        findings.expect(
          page.flags.contains(.tscStable) == stable, at: [event],
          "bit 0 \(stable ? "set" : "clear") in vcpu\(vcpu)'s record",
          seen: "flags \(Hex(UInt64(page.flags.rawValue)))")
      }
      findings.expect(
        clock.record.isTSCStable == stable, at: [clock.event],
        "KVM_CLOCK_TSC_STABLE \(stable ? "set" : "clear")", seen: "flags \(Hex(clock.record.flags))"
      )
    }
    for event in history.events {
      switch event.action {
      case .hostChanged("clocksource", let name, nil):
        (isSwitched, isSet, settled) = (matches(name), false, [:])
      case .setClock: isSet = true
      case .page(let vcpu, _, let page): settled[vcpu] = (event, page)
      // The scenario enters every vCPU twice and looks at every record before it asks.
      case .getClock(let record) where isSwitched && (isSet || !stable) && settled.count >= 2:
        judge((event, record))
      default: continue
      }
    }
    return findings.outcome(atLeast: 3, "records and KVM_GET_CLOCK after the switch", in: self)
  }

  /// Bit 1 of records after a suspend of the host.
  fileprivate func stopped(isActive: Bool) -> Outcome {
    var findings = Findings()
    var active: Set<Int> = []
    var activeThen: Set<Int>?
    for event in history.events {
      switch (event.action, event.actor) {
      case (.vmCreated, _): (active, activeThen) = ([], nil)
      case (.wroteMSR(let msr, let value, nil), .vcpu(let vcpu)) where MSR.isSystemTime(msr):
        if value.value & 1 == 1 { active.insert(vcpu) } else { active.remove(vcpu) }
      case (.hostChanged("suspend", _, nil), _): activeThen = active
      case (.page(let vcpu, _, let page), _):
        guard let activeThen, activeThen.contains(vcpu) == isActive else { continue }
        findings.expect(
          page.flags.contains(.guestStopped) == isActive, at: [event],
          "bit 1 \(isActive ? "set" : "clear") in vcpu\(vcpu)'s record",
          seen: "flags \(Hex(UInt64(page.flags.rawValue)))")
      default: continue
      }
    }
    return findings.outcome("records after a suspend", in: self)
  }
}

internal import PVClock

// A guest's view when the host changes under it. The scenarios run on scratch hosts only.

extension Rule {
  static let hostChanges: [Rule] = [
    .stableLostClocksource, .clocksourceSwitchKeepsTime, .stableBackOnTSC, .clocksourceEveryVM,
    .setclockNontsc, .realtimeStepKeepsTime, .realtimeStepFollowed,
    .rateNotNTP, .rateBoottime, .suspendNotRefused, .suspendStoppedFlag, .suspendInactiveNoflag,
    .periodicSync,
  ]

  static let stableLostClocksource = Rule(
    "STABLE-LOST-CLOCKSOURCE",
    "When the host's clocksource goes from tsc to a non-TSC clocksource, bit 0 is clear in every record after the vCPU's "
      + "next entries, and KVM_CLOCK_TSC_STABLE is clear in KVM_GET_CLOCK.",
    sources: [
      .msr("flags bit 0: a guarantee, which a host that gave up its TSC cannot keep"),
      .guest("the discussion of Linux b7e60c5aedd2 (4.2)"),
      .x86("pvclock_gtod_notify(), pvclock_update_vm_gtod_copy()"),
    ],
    method:
      "Switch the clocksource through sysfs, enter for up to 5 s until bit 0 is clear, then enter every vCPU and read every "
      + "record.",
    scenarios: [.clocksourceSwitch], coverage: flagsCoverage, needs: [.hostChange, .masterClock]
  ) { timeline, findings in
    findings.expectFlags(stable: false, onClocksource: { $0 != "tsc" }, in: timeline)
  }

  static let stableBackOnTSC = Rule(
    "STABLE-BACK-ON-TSC",
    "When the host's clocksource is tsc again, the next KVM_SET_CLOCK brings bit 0 back to every record and "
      + "KVM_CLOCK_TSC_STABLE to KVM_GET_CLOCK.",
    sources: [.x86("kvm_vm_ioctl_set_clock(), pvclock_update_vm_gtod_copy()")],
    method:
      "Switch to another clocksource and back, set the clock, enter every vCPU, read every record.",
    scenarios: [.clocksourceSwitch], coverage: flagsCoverage, needs: [.hostChange, .masterClock]
  ) { timeline, findings in
    findings.expectFlags(stable: true, onClocksource: { $0 == "tsc" }, in: timeline)
  }

  private static let flagsCoverage: [Coverage] = [
    .observations(3, "records and KVM_GET_CLOCK after the switch"),
    .everyVCPU("vCPUs whose record was read"),
  ]

  static let clocksourceSwitchKeepsTime = Rule(
    "CLOCKSOURCE-SWITCH-KEEPS-TIME",
    "A switch of the host's clocksource neither stops, restarts nor steps the clock of any vCPU, even of one that reads it "
      + "all the while.",
    sources: [.msr("MSR_KVM_SYSTEM_TIME_NEW, field system_time")],
    method:
      "Read on both vCPUs before and after the switch, on one of them also in a loop across it; compare with "
      + "CLOCK_MONOTONIC_RAW.",
    scenarios: [.clocksourceSwitch],
    coverage: [
      .observations(4, "readings on both sides of a switch, and loops across it"),
      .everyVCPU("vCPUs that read on both sides"), .count(1, "loops in which bit 0 went"),
    ], needs: [.hostChange, .masterClock]
  ) { timeline, findings in
    for machine in timeline.machines {
      var last: [Int: Observation] = [:]
      var before: [Int: Observation] = [:]
      var change: Event?
      for step in machine.steps {
        switch step.event.action {
        case .hostChanged("clocksource", _, nil): (change, before) = (step.event, last)
        // Where bit 0 comes back, the first reading is one without it, which may run ahead.
        case .looped(_, let result) where result.first.page.flags.contains(.tscStable):
          findings.expect(
            result.backwards == 0, at: [step.event],
            "no step back among the \(result.reads) readings that have bit 0 set",
            seen: describeSteps(result))
          if change != nil, !result.last.page.flags.contains(.tscStable) {
            findings.count("loops in which bit 0 went")
          }
        case .read:
          for reading in step.observations {
            guard let vcpu = reading.vcpu else { continue }
            if let change, let from = before[vcpu], from.epoch == reading.epoch,
              findings.expectAdvance(from: from, to: reading, over: [change], in: timeline)
            {
              findings.cover(vcpu: vcpu, of: "vCPUs that read on both sides")
            }
            last[vcpu] = reading
          }
        default: continue
        }
      }
    }
  }

  static let setclockNontsc = Rule(
    "SETCLOCK-NONTSC",
    "KVM_SET_CLOCK sets the clock of every vCPU even while the host's clocksource is not the TSC.",
    sources: [.api("4.30 KVM_SET_CLOCK")],
    method: "Set a seeded value after the switch; each vCPU reads.",
    scenarios: [.clocksourceSwitch],
    coverage: [
      .observations(2, "readings after a setting"), .everyVCPU("vCPUs that read after a setting"),
    ], needs: [.hostChange]
  ) { timeline, findings in
    for setting in timeline.settings where !setting.record.hasRealtime {
      for reading in setting.first
      where reading.vcpu != nil && timeline.isOffTSC(from: setting.index, to: reading.index) {
        if findings.expectValue(
          setting.record.clock, since: setting.event, at: reading, in: timeline)
        {
          findings.cover(vcpu: reading.vcpu, of: "vCPUs that read after a setting")
        }
      }
    }
  }

  static let suspendNotRefused = Rule(
    "SUSPEND-NOT-REFUSED",
    "Virtual machines do not keep a host from suspending, whether their guests use kvmclock or not.",
    sources: [.commit("Linux 7d62874f69d7 (5.14)")],
    method:
      "Test a suspend (pm_test freezer) with a machine of which one vCPU has no record, and with a machine without records.",
    scenarios: [.suspend],
    coverage: [
      .observations(2, "tested suspends"),
      .each(["with a record", "without a record"], "machines"),
    ], needs: [.hostChange]
  ) { timeline, findings in
    for step in timeline.steps {
      guard case .hostChanged("suspend", _, let error) = step.event.action else { continue }
      findings.expect(
        error == nil, at: [step.event], "no error from the suspend", seen: error?.description ?? "")
      findings.cover(
        step.machine.records.isEmpty ? "without a record" : "with a record", of: "machines")
    }
  }

  static let suspendStoppedFlag = Rule(
    "SUSPEND-STOPPED-FLAG",
    "A suspend of the host sets bit 1 (GUEST_STOPPED) in every active record at the vCPU's next entry, as "
      + "KVM_KVMCLOCK_CTRL does.",
    sources: [.commit("Linux 7d62874f69d7 (5.14)")],
    method:
      "Test a suspend (pm_test freezer) with two active records; enter every vCPU, read both records.",
    scenarios: [.suspend],
    coverage: [
      .count(1, "suspends with two or more active records, each of them read"),
      .observations(2, "records that were active at a suspend"),
    ], needs: [.hostChange]
  ) { timeline, findings in
    for machine in timeline.machines {
      var suspend: Event?
      var unread: [Int: UInt64] = [:]
      var isOfSeveral = false
      for step in machine.steps {
        switch step.event.action {
        case .hostChanged("suspend", _, nil):
          (suspend, unread) = (step.event, step.machine.records.compactMapValues(\.record))
          isOfSeveral = unread.count > 1
        // A guest that clears the bit does so before the look.
        case .poked(let address, _):
          unread = unread.filter { address.value &- $0.value >= UInt64(ClockPage.size) }
          isOfSeveral = false
        case .page(let vcpu, let address, let page)
        where unread[vcpu] == address.value && step.after.record == address.value
          && step.hasEntered(since: suspend):
          unread[vcpu] = nil
          findings.expectStopped(true, in: page, of: vcpu, at: step.event)
          if unread.isEmpty, isOfSeveral {
            findings.count("suspends with two or more active records, each of them read")
          }
        default: continue
        }
      }
    }
  }

  static let suspendInactiveNoflag = Rule(
    "SUSPEND-INACTIVE-NOFLAG",
    "A suspend of the host sets bit 1 in no record of a vCPU that has no active record then, not even in one that it "
      + "registers later.",
    sources: [.x86("kvm_arch_suspend_notifier(), kvm_set_guest_paused()")],
    method: "Test a suspend (pm_test freezer), enter, register, read the record.",
    scenarios: [.suspend], coverage: [.observations(1, "records registered after a suspend")],
    needs: [.hostChange]
  ) { timeline, findings in
    for machine in timeline.machines {
      var suspend: Event?
      var active: [Int: UInt64] = [:]
      var told: Set<Int> = []
      for step in machine.steps {
        switch step.event.action {
        case .hostChanged("suspend", _, nil):
          (suspend, active, told) = (
            step.event, step.machine.records.compactMapValues(\.record), []
          )
        case .toldStopped(let vcpu, _): told.insert(vcpu)
        // KVM keeps a bit that it finds in guest memory.
        case .poked, .filled: suspend = nil
        case .page(let vcpu, let address, let page)
        where active[vcpu] == nil && !told.contains(vcpu) && !active.values.contains(address.value)
          && step.after.record == address.value && step.hasEntered(since: suspend):
          findings.expectStopped(false, in: page, of: vcpu, at: step.event)
        default: continue
        }
      }
    }
  }

  static let periodicSync = Rule(
    "PERIODIC-SYNC",
    "With KVM's parameter kvmclock_periodic_sync, whose period is 300 s, a record is updated at least once in 320 s.",
    sources: [.x86("kvmclock_sync_fn(); removed by Linux 43ddbf16edf5 (6.19)")],
    method:
      "In master-clock mode, where nothing else updates a record: enter once a second, request nothing, and read the record "
      + "until the version moves, for up to 330 s.",
    scenarios: [.periodicSync], coverage: [.observations(1, "spans without a request")],
    needs: [.minutes, .masterClock]
  ) { timeline, findings in
    for machine in timeline.machines {
      var since: [Int: (step: Step, version: UInt32)] = [:]
      for step in machine.steps {
        if let vcpu = step.vcpu, step.systemTimeWrite != nil { since[vcpu] = nil }
        guard case .page(let vcpu, let address, let page) = step.event.action,
          step.after.record == address.value
        else { continue }
        guard page.flags.contains(.tscStable) else {
          findings.lacks("no master clock: bit 0 is clear in vcpu\(vcpu)'s record")
          continue
        }
        guard let (first, version) = since[vcpu], first.machine.epoch == step.machine.epoch else {
          since[vcpu] = (step, page.version)
          continue
        }
        let elapsed = first.event.elapsed(to: step.event)
        guard version != page.version || elapsed.lower >= 320_000_000_000 else {
          findings.lacks(
            "two reads of one version were apart by \(nanoseconds(elapsed.lower)) only")
          continue
        }
        findings.expect(
          version != page.version, at: [first.event, step.event],
          "another version than \(version) after \(nanoseconds(elapsed.lower))",
          seen: "version \(page.version)")
        since[vcpu] = (step, page.version)
      }
    }
  }
}

extension Timeline {
  /// Whether a clocksource other than the TSC drove the host's clocks from one event to the other, by their places.
  fileprivate func isOffTSC(from start: Int, to end: Int) -> Bool {
    var isTSC = history.header.host.clocksourceIsTSC ?? true
    for (index, event) in history.events.prefix(end).enumerated() {
      guard case .hostChanged("clocksource", let name, nil) = event.action else { continue }
      if index > start { return false }
      isTSC = name == "tsc"
    }
    return !isTSC
  }
}

extension Step {
  /// Whether the vCPU was in the guest after that event.
  fileprivate func hasEntered(since event: Event?) -> Bool {
    guard let event, let entry = after.lastEntry else { return false }
    return entry > event.number
  }
}

extension Findings {
  /// Bit 0 of every registered record, and of `KVM_GET_CLOCK`, after a switch to such a clocksource. After a switch to tsc
  /// the clock has to be set first.
  fileprivate mutating func expectFlags(
    stable: Bool, onClocksource matches: (String) -> Bool, in timeline: Timeline
  ) {
    for machine in timeline.machines {
      var isSwitched = false
      var change: Event?
      var looks: [Int: (event: Event, page: ClockPage)] = [:]
      for step in machine.steps {
        switch step.event.action {
        case .hostChanged("clocksource", let name, nil):
          isSwitched = matches(name)
          (change, looks) = (isSwitched && !stable ? step.event : nil, [:])
        case .setClock where isSwitched && stable: (change, looks) = (step.event, [:])
        case .page(let vcpu, let address, let page)
        where step.after.record == address.value && step.hasEntered(since: change):
          looks[vcpu] = (step.event, page)
        // The scenario enters every vCPU twice and reads every record before it asks.
        case .getClock(let record)
        where !looks.isEmpty && looks.count == step.machine.records.count:
          for (vcpu, (event, page)) in looks.sorted(by: { $0.key < $1.key }) {
            expectStable(stable, in: page, of: vcpu, at: [event])
            cover(vcpu: vcpu, of: "vCPUs whose record was read")
          }
          expectStable(stable, in: record, at: [step.event])
        default: continue
        }
      }
    }
  }

  /// PVCLOCK_GUEST_STOPPED of a record.
  fileprivate mutating func expectStopped(
    _ expected: Bool, in page: ClockPage, of vcpu: Int, at event: Event
  ) {
    expect(
      page.flags.contains(.guestStopped) == expected, at: [event],
      "bit 1 \(expected ? "set" : "clear") in vcpu\(vcpu)'s record",
      seen: "flags \(Hex(UInt64(page.flags.rawValue)))")
  }
}

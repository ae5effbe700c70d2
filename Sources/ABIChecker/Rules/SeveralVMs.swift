internal import PVClock

// Machines that are alive at the same time.

extension Rule {
  static let severalVMs: [Rule] = [
    .sistersKeepTime, .sistersKeepMasterClock,
  ]

  static let sistersKeepTime = Rule(
    "SISTERS-KEEP-TIME",
    "A VM's clock is its own: if another VM is made, destroyed or has its clock set, or loses the master clock, it goes on.",
    sources: [
      .api("4.30 KVM_SET_CLOCK, a request of one VM"),
      .msr("MSR_KVM_SYSTEM_TIME_NEW, field system_time"),
    ],
    method:
      "Three VMs. Each reads, one of them is set, goes to the old MSR and back, or is destroyed and made anew, and the others "
      + "read again: their clocks advance by what CLOCK_MONOTONIC_RAW counted.",
    scenarios: [.severalVMs],
    coverage: [
      .each(["set", "changed its MSR", "made anew"], "what was done to another VM"),
      .different(3, "VMs that went on"), .observations(6, "advances of other VMs"),
    ]
  ) { timeline, findings in
    for machine in timeline.machines {
      var last: [Int: Observation] = [:]
      for reading in machine.steps.flatMap(\.observations) {
        guard let vcpu = reading.vcpu else { continue }
        defer { last[vcpu] = reading }
        guard let before = last[vcpu], before.epoch == reading.epoch else { continue }
        let acts = timeline.acts(on: machine.number, from: before.index, to: reading.index)
        guard !acts.isEmpty,
          findings.expectAdvance(
            from: before, to: reading, over: acts.map(\.event), in: timeline,
            why: "another VM's fate is none of its own, and CLOCK_MONOTONIC_RAW counted so much")
        else { continue }
        for act in acts { findings.cover(act.what, of: "what was done to another VM") }
        findings.cover("VM \(machine.number)", of: "VMs that went on")
      }
    }
  }

  static let sistersKeepMasterClock = Rule(
    "SISTERS-KEEP-MASTER-CLOCK",
    "A VM that loses the master clock takes it from no other: their records keep bit 0, and their KVM_GET_CLOCK "
      + "KVM_CLOCK_TSC_STABLE.",
    sources: [.x86("pvclock_update_vm_gtod_copy(): use_master_clock is a VM's")],
    method:
      "Three VMs with the master clock. One's boot vCPU goes to the old MSR, and is on it when the others enter and their "
      + "records are read.",
    scenarios: [.severalVMs],
    coverage: [
      .count(2, "results of KVM_GET_CLOCK"),
      .observations(6, "records and results of KVM_GET_CLOCK beside a VM without the master clock"),
    ], needs: [.masterClock]
  ) { timeline, findings in
    for machine in timeline.machines {
      var hadMasterClock = false
      for step in machine.steps {
        // Whatever the VM itself does may bring the master clock or take it.
        if step.machine.isBootVCPUOnOldMSR || step.machine.mayBeUnmatched { hadMasterClock = false }
        guard let shown = step.showsMasterClock else { continue }
        if hadMasterClock, let loss = timeline.loss(besides: machine.number, before: step.index) {
          findings.expectMasterClock(true, at: step, since: loss, why: "another VM lost it")
        }
        if shown { hadMasterClock = true }
      }
      if !hadMasterClock, !machine.steps.isEmpty {
        findings.lacks("a VM was not in master-clock mode before another one lost it")
      }
    }
  }

  static let clocksourceEveryVM = Rule(
    "CLOCKSOURCE-EVERY-VM",
    "Every VM that is alive hears of each switch of the host's clocksource, also of the second one: bit 0 is clear while "
      + "it is no TSC, and set again after it is tsc and the clock was set.",
    sources: [
      .msr("flags bit 0: a guarantee, which a host that gave up its TSC cannot keep"),
      .x86("pvclock_gtod_update_fn(): for each VM and each vCPU"),
    ],
    method:
      "Three VMs alive, after a fourth was destroyed; tsc to another clocksource, back, and both again. After each switch every vCPU of every VM enters "
      + "until bit 0 of vCPU 0 is clear or 5 s are over, and every record is read; back on tsc the clock is set first.",
    scenarios: [.clocksourceTwice],
    coverage: [
      .different(3, "VMs"), .different(4, "switches"),
      .each(["destroyed before a switch"], "other VMs"),
      .observations(12, "results of KVM_GET_CLOCK after switches"),
    ], needs: [.hostChange, .masterClock]
  ) { timeline, findings in
    for machine in timeline.machines {
      var change: (event: Event, isTSC: Bool)?
      var cause: Event?
      for step in machine.steps {
        switch step.event.action {
        case .hostChanged("clocksource", let name, nil):
          change = (step.event, name == "tsc")
          cause = name == "tsc" ? nil : step.event
        case .setClock where change?.isTSC == true: cause = step.event
        case .page(let vcpu, let address, let page)
        where step.after.record == address.value
          && (step.after.lastEntry ?? 0) > cause?.number ?? .max:
          guard let change, let cause else { continue }
          findings.expectStable(change.isTSC, in: page, of: vcpu, at: [cause, step.event])
        case .getClock(let record):
          guard let change, let cause else { continue }
          findings.expectStable(change.isTSC, in: record, at: [cause, step.event])
          findings.cover("VM \(machine.number)", of: "VMs")
          if timeline.hasLostAVM { findings.cover("destroyed before a switch", of: "other VMs") }
          findings.cover("event \(change.event.number)", of: "switches")
        default: continue
        }
      }
    }
  }
}

extension Timeline {
  /// Whether a VM was destroyed before the host changed: another one took its place.
  fileprivate var hasLostAVM: Bool {
    let names = history.events.prefix {
      if case .hostChanged = $0.action { false } else { true }
    }.filter { $0.action == .vmCreated }.map(\.machine)
    return Set(names).count < names.count
  }

  /// What was done to other machines between two places of the history.
  fileprivate func acts(
    on machine: Int, from start: Int, to end: Int
  ) -> [(event: Event, what: String)] {
    machines.filter { $0.number != machine }.flatMap(\.steps).filter {
      start < $0.index && $0.index < end
    }.compactMap { step in
      switch step.event.action {
      case .setClock: return (step.event, "set")
      case .vmCreated: return (step.event, "made anew")
      default:
        guard let old = step.before.systemTime, let write = step.systemTimeWrite, step.vcpu == 0,
          old.isOldMSR != write.isOldMSR
        else { return nil }
        return (step.event, "changed its MSR")
      }
    }
  }

  /// The write by which another machine's boot vCPU came to the old MSR, on which it still is at this place.
  fileprivate func loss(besides machine: Int, before index: Int) -> Event? {
    for other in machines where other.number != machine {
      guard let last = other.steps.last(where: { $0.index < index }),
        last.machine.isBootVCPUOnOldMSR, let write = last.machine.records[0], write.isOldMSR
      else { continue }
      return write.event
    }
    return nil
  }
}

internal import PVClock

// Hyper-V's names for the VM's clock: a counter in an MSR and a page, both in units of 100 ns.

extension Rule {
  static let hyperV: [Rule] = [
    .hyperVCountIsKvmclock, .hyperVPageIsKvmclock, .hyperVFollowsSetClock, .hyperVNoStepBack,
    .hyperVSequence,
  ]

  static let hyperVCountIsKvmclock = Rule(
    "HYPERV-COUNT-IS-KVMCLOCK",
    "HV_X64_MSR_TIME_REF_COUNT is kvmclock in units of 100 ns, with the reference TSC page and without it, and with the "
      + "master clock and without it.",
    sources: [.madeOfKvmclock],
    method:
      "A vCPU reads its record, the MSR, and its record. The counter lies between the two readings, less two units for its "
      + "rounding and that of the page's offset, and plus one.",
    scenarios: [.hyperV],
    coverage: [
      .everyVCPU(), .each(["no page", "a page"], "counts with"), .observations(8, "counts"),
    ],
    needs: [.hyperV]
  ) { timeline, findings in
    for count in timeline.otherClocks.flatMap(\.counts) {
      let slack = timeline.drift(until: count.after) + timeline.rounding
      let allowed =
        Interval(Int128(count.before.value) - count.before.lead, Int128(count.after.value))
        + ReferencePage.allowedError(since: 0).widened(by: slack)
      guard
        findings.expect(
          Int128(count.ticks) * ReferencePage.unit, in: allowed, limit: Timeline.widestUseful,
          at: [count.before.event, count.step.event, count.after.event],
          "HV_X64_MSR_TIME_REF_COUNT, \(count.ticks), times 100 ns",
          why: "kvmclock before and after it")
      else { continue }
      findings.cover(vcpu: count.step.vcpu)
      findings.cover(count.isBesideAPage(in: timeline) ? "a page" : "no page", of: "counts with")
    }
  }

  static let hyperVPageIsKvmclock = Rule(
    "HYPERV-PAGE-IS-KVMCLOCK",
    "Where TscSequence is not 0, the reference TSC page gives at each TSC what kvmclock's record does, but for the rounding "
      + "of its units of 100 ns.",
    sources: [.madeOfKvmclock, .referencePage],
    method:
      "The page is looked at, a vCPU reads its record, and the page is looked at again. Both are computed for the TSC of "
      + "the reading.",
    scenarios: [.hyperV],
    coverage: [.everyVCPU(), .observations(8, "readings beside a page")],
    needs: [.hyperV, .masterClock]
  ) { timeline, findings in
    for (comparison, page, tsc) in timeline.pageReadings(&findings) {
      let reading = comparison.reading
      let since = difference(tsc, reading.page?.tscTimestamp ?? tsc)
      let slack = timeline.drift(until: reading) + timeline.rounding
      let allowed = ReferencePage.allowedError(since: since).widened(by: slack)
      findings.expect(
        page.time(atTSC: tsc) - Int128(reading.value),
        in: Interval(allowed.lower - reading.lead, allowed.upper), at: comparison.events,
        "the reference TSC page's time less kvmclock, \(reading.value) ns, at TSC \(tsc)",
        why: "TscScale \(Hex(page.scale)), TscOffset \(page.offset) in units of 100 ns")
      findings.cover(vcpu: reading.vcpu)
    }
  }

  static let hyperVFollowsSetClock = Rule(
    "HYPERV-FOLLOWS-SETCLOCK",
    "After KVM_SET_CLOCK the counter and the reference TSC page go on from the value that was set.",
    sources: [.madeOfKvmclock, .x86("kvm_vm_ioctl_set_clock()")],
    method:
      "Set the clock, let vCPU 0 enter, read the counter, and compute the page at a guest's TSC.",
    scenarios: [.hyperV],
    coverage: [
      .each(["counter", "page"], "what was read"), .observations(8, "values after KVM_SET_CLOCK"),
    ],
    needs: [.hyperV, .masterClock]
  ) { timeline, findings in
    func expect(_ time: Int128, _ what: String, at event: Event, _ machine: MachineState) -> Bool {
      guard let setting = machine.setting, setting.record.flags == 0 else { return false }
      let elapsed = setting.event.elapsed(to: event)
      let slack = share(timeline.rateBound, of: elapsed.upper) + timeline.rounding
      return findings.expect(
        time - Int128(setting.record.clock),
        in: elapsed.widened(by: slack) + ReferencePage.allowedError(since: 0),
        limit: Timeline.widestUseful, at: [setting.event, event],
        "\(what) less the value set (\(setting.record.clock) ns)",
        why: "the time that CLOCK_MONOTONIC_RAW counted since KVM_SET_CLOCK")
    }
    for count in timeline.otherClocks.flatMap(\.counts)
    where expect(
      Int128(count.ticks) * ReferencePage.unit, "HV_X64_MSR_TIME_REF_COUNT times 100 ns",
      at: count.step.event, count.step.machine)
    {
      findings.cover("counter", of: "what was read")
    }
    for (comparison, page, tsc) in timeline.pageReadings(&findings) {
      if expect(
        page.time(atTSC: tsc), "the reference TSC page's time", at: comparison.reading.event,
        comparison.look.step.machine)
      {
        findings.cover("page", of: "what was read")
      }
    }
  }

  static let hyperVNoStepBack = Rule(
    "HYPERV-NO-STEP-BACK",
    "Between two KVM_SET_CLOCK neither the counter nor the reference TSC page goes back, on one vCPU or from one to another.",
    sources: [.referenceCounter, .referencePage],
    method:
      "Every two counts in a row, and every two times of the page at TSCs of guests. Where the page or the pair of the master "
      + "clock may be another one, two units of rounding and the step of a new pair are allowed.",
    scenarios: [.hyperV],
    coverage: [.count(8, "counts"), .observations(8, "counts and times of the page")],
    needs: [.hyperV]
  ) { timeline, findings in
    func expectNoStep(
      _ what: String, _ values: [(time: Int128, event: Event, epoch: Int, age: Int128)]
    ) {
      for (earlier, later) in zip(values, values.dropFirst()) where earlier.epoch == later.epoch {
        let isSame = !timeline.mayHaveNewPair(from: earlier.event, to: later.event)
        let slack = isSame ? 0 : later.age + timeline.rounding + 2 * ReferencePage.unit
        // Units of 100 ns may pass 2^64 ns.
        findings.expect(
          later.time >= earlier.time - slack, at: [earlier.event, later.event],
          "\(what) at or above \(nanoseconds(earlier.time))"
            + (slack > 0 ? " minus \(nanoseconds(slack))" : "") + ", what it was before",
          seen: "\(nanoseconds(later.time)), a step of \(nanoseconds(later.time - earlier.time))")
      }
    }
    for clocks in timeline.otherClocks {
      findings.count("counts", by: UInt64(clocks.counts.count))
      expectNoStep(
        "HV_X64_MSR_TIME_REF_COUNT times 100 ns",
        clocks.counts.map {
          (
            Int128($0.ticks) * ReferencePage.unit, $0.step.event, $0.step.machine.epoch,
            timeline.drift(until: $0.after)
          )
        })
    }
    var times: [(time: Int128, event: Event, epoch: Int, age: Int128)] = []
    for (comparison, page, tsc) in timeline.pageReadings(&findings) {
      let reading = comparison.reading
      times.append(
        (page.time(atTSC: tsc), reading.event, reading.epoch, timeline.drift(until: reading)))
    }
    expectNoStep("the reference TSC page's time", times)
  }

  static let hyperVSequence = Rule(
    "HYPERV-SEQUENCE",
    "TscSequence is another one whenever TscScale or TscOffset is, and it is 0, which sends the guest to the counter, while "
      + "the VM has no master clock.",
    sources: [.referencePage, .implementation("arch/x86/kvm/hyperv.c, kvm_hv_setup_tsc_page()")],
    method:
      "Look at the page before and after KVM_SET_CLOCK, with the boot vCPU on the old MSR, and back.",
    scenarios: [.hyperV],
    coverage: [
      .each(["changed", "without the master clock"], "pages"), .observations(4, "pages"),
    ],
    needs: [.hyperV, .masterClock]
  ) { timeline, findings in
    for clocks in timeline.otherClocks {
      var last: (page: ReferencePage, event: Event)?
      for look in clocks.looks where look.place == .referencePage {
        guard look.isCurrent, let page = ReferencePage(look.bytes) else { continue }
        let event = look.step.event
        if look.step.machine.isBootVCPUOnOldMSR {
          findings.cover("without the master clock", of: "pages")
          findings.expect(
            !page.isValid, at: [event], "TscSequence 0 while the VM has no master clock",
            seen: "TscSequence \(page.sequence)")
        }
        guard page.isValid else { continue }
        if let (old, before) = last, (old.scale, old.offset) != (page.scale, page.offset) {
          findings.cover("changed", of: "pages")
          findings.expect(
            old.sequence != page.sequence, at: [before, event],
            "another TscSequence than \(old.sequence): TscOffset went from \(old.offset) to \(page.offset)",
            seen: "TscSequence \(page.sequence)")
        }
        last = (page, event)
      }
    }
  }
}

extension Source {
  fileprivate static let referenceCounter = document(
    "Hypervisor Top-Level Functional Specification, Timers, Reference Counter")
  fileprivate static let referencePage = document(
    "Hypervisor Top-Level Functional Specification, Timers, Partition Reference Time Enlightenment")
  fileprivate static let madeOfKvmclock = implementation(
    "arch/x86/kvm/hyperv.c, get_time_ref_counter() and kvm_hv_setup_tsc_page()")
}

extension Timeline {
  var otherClocks: [OtherClocks] { machines.map(OtherClocks.init) }

  /// Every reading beside a valid reference TSC page.
  fileprivate func pageReadings(
    _ findings: inout Findings
  ) -> [(OtherClocks.Comparison, ReferencePage, tsc: UInt64)] {
    otherClocks.flatMap(\.comparisons).compactMap { comparison in
      guard comparison.look.place == .referencePage,
        let page = ReferencePage(comparison.look.bytes), let tsc = comparison.reading.guestTSC
      else { return nil }
      if !page.isValid { findings.lacks("TscSequence is 0: the VM has no master clock") }
      return page.isValid ? (comparison, page, tsc) : nil
    }
  }
}

extension OtherClocks.Count {
  /// Whether the guest had switched the page on.
  fileprivate func isBesideAPage(in timeline: Timeline) -> Bool {
    timeline.machines[step.machine.number].steps.contains {
      if case .wroteMSR(Hex(MSR.referenceTSC), let value, nil) = $0.event.action {
        value.value & 1 == 1 && $0.index < step.index
      } else {
        false
      }
    }
  }
}

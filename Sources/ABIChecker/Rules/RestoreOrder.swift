internal import PVClock

// What a VMM may do in which order as it restores a VM.

extension Rule {
  static let tscFirstWriteKept = Rule(
    "TSC-FIRST-WRITE-KEPT",
    "The first IA32_TSC that the host writes on a new VM, on any vCPU, is kept: the TSC goes on from it, even if it is less "
      + "than 1 s from the TSC that the vCPU was made with.",
    sources: [
      .commit("Linux bf328e22e472 (6.7)"),
      .document("Intel SDM, volume 3, IA32_TIME_STAMP_COUNTER: a write sets the counter"),
    ],
    method:
      "In new VMs write the TSC as it is plus 0.6 s, the value 1000, and a value hours ahead; KVM_GET_MSRS; the guest's RDTSC. "
      + "Compare with the host's.",
    scenarios: [.firstTSCWrite],
    coverage: [
      .observations(6, "TSCs after a first write less than 1 s away"), .different(2, "vCPUs"),
      .each(["ahead", "behind"], "first values"),
    ], needs: [.tscWrites]
  ) { timeline, findings in
    let writes = timeline.firstTSCWrites
    guard writes.contains(where: { write in write.after.contains { $0.range.mayBe(write.offset) } })
    else {
      if let write = writes.first {
        findings.lacks(
          "the host wrote \(Hex(write.value)) to vcpu\(write.vcpu)'s IA32_TSC, and the TSC did not follow"
        )
      }
      return
    }
    for write in writes {
      let moved = write.offset.distance(from: write.had)
      // Nothing tells the value written from the TSC as it was.
      guard !moved.contains(0) else { continue }
      for (event, range) in write.after {
        let off = range.distance(from: write.offset)
        findings.expect(
          off.contains(0), at: [write.event, event],
          "vcpu\(write.vcpu)'s TSC to go on from \(Hex(write.value)), the first value that the host wrote on this VM, "
            + "\(moved.lower) to \(moved.upper) cycles from where the TSC was",
          seen: "\(off.lower) to \(off.upper) cycles from that", fits: range.mayBe(write.had))
        guard max(abs(moved.lower), abs(moved.upper)) < timeline.hertz else { continue }
        findings.cover(vcpu: write.vcpu)
        findings.cover(moved.lower > 0 ? "ahead" : "behind", of: "first values")
      }
    }
  }

  static let setclockBeforeVCPUs = Rule(
    "SETCLOCK-BEFORE-VCPUS",
    "KVM_SET_CLOCK sets the clock of a VM that has no vCPU yet: KVM_GET_CLOCK, and every vCPU that is made later, go on from "
      + "the value given.",
    sources: [.api("4.30 KVM_SET_CLOCK (a request of the VM)")],
    method:
      "In a new VM set the clock, KVM_GET_CLOCK, make two vCPUs, which read, and one more later.",
    scenarios: [.clockBeforeVCPUs],
    coverage: [
      .observations(9, "values after a setting without a vCPU"),
      .everyVCPU("vCPUs that read"), .different(3, "values set"),
      .each(["without a vCPU", "with vCPUs"], "results of KVM_GET_CLOCK"),
    ]
  ) { timeline, findings in
    for machine in timeline.machines {
      let without = Set(
        machine.steps.filter { $0.event.setsClock && $0.machine.vcpus == 0 }.map(\.index))
      for step in machine.steps {
        guard let setting = step.machine.setting, without.contains(setting.index),
          !setting.record.hasRealtime
        else { continue }
        for value in step.observations {
          let set = setting.record.clock
          let counts = findings.expectValue(
            set, since: setting.event, at: value, in: timeline,
            why: "the time since KVM_SET_CLOCK, which came before the first vCPU")
          guard counts else { continue }
          findings.cover("\(set)", of: "values set")
          if value.vcpu == nil {
            findings.cover(
              step.machine.vcpus == 0 ? "without a vCPU" : "with vCPUs",
              of: "results of KVM_GET_CLOCK")
          }
          findings.cover(vcpu: value.vcpu, of: "vCPUs that read")
        }
      }
    }
  }

  private static let kinds = ["clock", "records", "TSCs"]
  private static let orders = kinds.flatMap { first in
    let rest = kinds.filter { $0 != first }
    return [rest, rest.reversed()].map { "\(first) \($0[0]) \($0[1])" }
  }

  static let restoreAnyOrder = Rule(
    "RESTORE-ANY-ORDER",
    "A host may set the clock, write the system-time MSRs and write IA32_TSC of a new VM in any order before its vCPUs first "
      + "enter: each vCPU then reads the value of KVM_SET_CLOCK plus the time since.",
    sources: [
      .guest("VMMs that restore a VM: each does it in an order of its own"),
      .api("4.30 KVM_SET_CLOCK, and 4.19 KVM_SET_MSRS"),
    ],
    method:
      "From one save a new VM for each of the six orders, TSCs hours ahead of the new VM's, and one with KVM_SET_CPUID2 once more "
      + "behind all of it; each vCPU enters and reads.",
    scenarios: [.restoreOrder],
    coverage: [
      .observations(12, "readings after a restore"), .everyVCPU(), .each(orders, "orders"),
      .each(["after the records"], "KVM_SET_CPUID2"),
    ], needs: [.tscWrites]
  ) { timeline, findings in
    for restored in timeline.restoredMachines where !restored.isByOffset {
      findings.expectGoesOn(restored, in: timeline)
    }
  }

  static let restoreByOffset = Rule(
    "RESTORE-BY-OFFSET",
    "The same holds where the host restores all TSCs by one KVM_VCPU_TSC_OFFSET: each vCPU reads the value of KVM_SET_CLOCK plus "
      + "the time since, and the VM is in master-clock mode.",
    sources: [
      .document(
        "Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_OFFSET (how to migrate a VM)"),
      .msr("flags bit 0"),
    ],
    method:
      "As for RESTORE-ANY-ORDER, with the TSCs restored by the attribute; all vCPUs get one offset, hours ahead of the host's TSC.",
    scenarios: [.restoreOrder],
    coverage: .masterClock(12, " after a restore") + [
      .count(12, "readings after a restore"), .everyVCPU(), .each(orders, "orders"),
    ], needs: [.tscOffset, .masterClock]
  ) { timeline, findings in
    guard timeline.history.header.host.clocksourceIsTSC == true else {
      return findings.lacks("no master clock: the host's clocksource is no TSC")
    }
    for restored in timeline.restoredMachines where restored.isByOffset {
      findings.expectGoesOn(restored, in: timeline)
      for step in restored.steps where restored.ignored == nil {
        findings.expectMasterClock(
          true, at: step, since: restored.set.event, why: "all vCPUs got one TSC offset")
      }
    }
    if !timeline.restoredMachines.contains(where: \.isByOffset) {
      findings.lacks("KVM_VCPU_TSC_OFFSET: the host does not have it")
    }
  }

  static let restoreTwice = Rule(
    "RESTORE-TWICE",
    "Several VMs that are restored from one save, one after the other or alive side by side, each go on from the clock that "
      + "was saved.",
    sources: [
      .guest("VMMs that start many VMs from one snapshot: Firecracker, cloud-hypervisor"),
      .api("4.30 KVM_SET_CLOCK"),
    ],
    method:
      "Six VMs from one save, and two more that live side by side, with the same value for KVM_SET_CLOCK; every vCPU of each "
      + "reads.",
    scenarios: [.restoreOrder],
    coverage: [
      .observations(20, "readings in VMs of one save"), .different(8, "VMs of one save"),
      .different(2, "VMs of one save, side by side"),
    ]
  ) { timeline, findings in
    var saved: Observation?
    for machine in timeline.machines {
      for step in machine.steps {
        if let setting = step.machine.setting, let saved, setting.record.clock == saved.value {
          for reading in step.observations where reading.vcpu != nil {
            let counts = findings.expectValue(
              saved.value, since: setting.event, at: reading, in: timeline,
              why:
                "the clock saved in event \(saved.event.number), and the time since KVM_SET_CLOCK")
            guard counts else { continue }
            findings.cover("VM \(step.machine.number)", of: "VMs of one save")
            guard let name = step.event.machine else { continue }
            findings.cover("VM \(name)", of: "VMs of one save, side by side")
          }
        }
      }
      guard let last = machine.steps.last(where: { $0.event.action == .saved }) else { continue }
      saved =
        machine.steps.prefix { $0.index < last.index }.last { $0.event.getsClock }?
        .observations.first
    }
  }
}

extension Event {
  fileprivate var setsClock: Bool { if case .setClock = action { true } else { false } }
  fileprivate var getsClock: Bool { if case .getClock = action { true } else { false } }
}

/// The first write of IA32_TSC by the host on a new VM.
private struct FirstTSCWrite {
  let vcpu: Int
  let event: Event
  let value: UInt64
  let had: TSCOffsetRange
  let offset: TSCOffsetRange
  /// The vCPU's TSC until it was moved again.
  var after: [(event: Event, range: TSCOffsetRange)] = []
}

extension Timeline {
  fileprivate var firstTSCWrites: [FirstTSCWrite] {
    machines.compactMap { machine in
      var had: [Int: TSCOffsetRange] = [:]
      var found: FirstTSCWrite?
      for step in machine.steps where step.machine.creation != nil {
        if let vcpu = TSCMoves.vcpu(movedBy: step.event) {
          if found?.vcpu == vcpu { return found }
          guard found == nil else { continue }
          guard case .hostWroteMSR(_, let msr, let value) = step.event.action,
            msr == Hex(MSR.tsc), value != 0, let before = had[vcpu]
          else { return nil }
          found = FirstTSCWrite(
            vcpu: vcpu, event: step.event, value: value.value, had: before,
            offset: TSCOffsetRange(of: value.value, in: step.event))
        }
        guard let vcpu = step.vcpu, let range = step.tscOffsetRange else { continue }
        if found?.vcpu == vcpu { found?.after.append((step.event, range)) }
        had[vcpu] = had[vcpu] ?? range
      }
      return found
    }
  }
}

/// A VM of which the host restored the clock, records and TSCs before any vCPU entered.
private struct RestoredMachine {
  let order: [String]
  let set: (event: Event, record: ClockRecord)
  let readings: [Observation]
  /// What followed, until the clock was set again.
  let steps: ArraySlice<Step>
  let isByOffset: Bool
  /// Whether KVM_SET_CPUID2 came after the records.
  let hasLateCPUID: Bool
  /// Why the writes of TSCs prove nothing, if so.
  let ignored: String?
}

extension Findings {
  /// Each reading goes on from the value that was set. Counts "readings after a restore", and covers "orders" and vCPUs, where
  /// the TSCs took what the host restored.
  fileprivate mutating func expectGoesOn(_ restored: RestoredMachine, in timeline: Timeline) {
    let order = restored.order.joined(separator: " ")
    for reading in restored.readings {
      let counts = expectValue(
        restored.set.record.clock, since: restored.set.event, at: reading, in: timeline,
        why:
          "the time that CLOCK_MONOTONIC_RAW counted since KVM_SET_CLOCK; restored were \(order)")
      guard counts else { continue }
      if let ignored = restored.ignored {
        lacks(ignored)
      } else {
        cover(order, of: "orders")
        if restored.hasLateCPUID { cover("after the records", of: "KVM_SET_CPUID2") }
        cover(vcpu: reading.vcpu)
        count("readings after a restore")
      }
    }
  }
}

extension Timeline {
  fileprivate var restoredMachines: [RestoredMachine] {
    machines.compactMap { machine in
      let before = machine.steps.prefix { !$0.isEntry }
      var order: [String] = []
      var first: (vcpu: Int, what: String, offset: TSCOffsetRange)?
      var isByOffset = false
      var hasLateCPUID = false
      for step in before {
        let kind: String? =
          switch step.event.action {
          case .setClock: "clock"
          case .hostWroteMSR(_, let msr, let value) where MSR.isSystemTime(msr):
            value.value & 1 == 1 ? "records" : nil
          case .hostWroteMSR(let vcpu, let msr, let value) where msr == Hex(MSR.tsc):
            {
              first =
                first
                ?? (
                  vcpu, "the host wrote \(value) to vcpu\(vcpu)'s IA32_TSC",
                  TSCOffsetRange(of: value.value, in: step.event)
                )
              return "TSCs"
            }()
          case .setTSCOffset(let vcpu, let cycles):
            {
              first =
                first
                ?? (
                  vcpu, "the host set vcpu\(vcpu)'s KVM_VCPU_TSC_OFFSET to \(cycles)",
                  TSCOffsetRange(exactly: cycles)
                )
              isByOffset = true
              return "TSCs"
            }()
          default: nil
          }
        if let kind, order.last != kind { order.append(kind) }
        if case .featuresSet = step.event.action, order.contains("records") { hasLateCPUID = true }
      }
      guard Set(order).count == 3, order.count == 3, let first,
        let setting = before.last?.machine.setting, !setting.record.hasRealtime
      else { return nil }
      let span = machine.steps.prefix { ($0.machine.setting?.index ?? 0) <= setting.index }
      let tsc = span.first { $0.isEntry && $0.vcpu == first.vcpu && $0.tscOffsetRange != nil }
      let off = tsc?.tscOffsetRange?.distance(from: first.offset)
      return RestoredMachine(
        order: order, set: (setting.event, setting.record),
        readings: span.flatMap(\.observations).filter { $0.vcpu != nil }, steps: span,
        isByOffset: isByOffset, hasLateCPUID: hasLateCPUID,
        ignored: off.flatMap {
          $0.contains(0)
            ? nil
            : "\(first.what), and its TSC is \($0.lower) to "
              + "\($0.upper) cycles from that"
        })
    }
  }
}

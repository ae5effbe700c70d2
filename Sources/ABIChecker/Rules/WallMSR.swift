// The wall clock MSRs' value, and addresses where nothing is written.

extension Rule {
  private static let sameMSR = Source.msr(
    "MSR_KVM_WALL_CLOCK (\"functioning: same as MSR_KVM_WALL_CLOCK_NEW\")")

  static let wallReadback = Rule(
    "WALL-READBACK",
    "RDMSR and KVM_GET_MSRS return the last value written to a wall clock MSR, all 64 bits, even of an address that "
      + "cannot be served; 0x11 and 0x4b564d00 are one value.",
    sources: [sameMSR, .x86("kvm_get_msr_common()")],
    method: "Write a fresh value through each MSR; the vCPU that wrote and the host read both.",
    scenarios: [.wallMSR],
    coverage: [
      .observations(8, "readings back of both MSRs, by guest and host"),
      .each(everyReader, readers),
    ]
  ) { timeline, findings in
    timeline.readWallMSRs(&findings) { write, reader, _ in
      guard write.isByHost || write.vcpu == reader else { return nil }
      return ""
    }
  }

  static let wallGlobal = Rule(
    "WALL-GLOBAL",
    "The value of the wall clock MSRs is the VM's: every vCPU reads the value that any vCPU wrote, even one that is made "
      + "later.",
    sources: [.msr("MSR_KVM_WALL_CLOCK_NEW (\"the effect of this particular MSR is global\")")],
    method: "Write on one vCPU, read on the other one and on a third that is made after the write.",
    scenarios: [.wallMSR],
    coverage: [
      .observations(8, "readings on other vCPUs, on both MSRs, by guest and host"),
      .each(everyReader + everyReader.map { $0 + late }, readers),
    ]
  ) { timeline, findings in
    timeline.readWallMSRs(&findings) { write, reader, isLater in
      guard !write.isByHost, write.vcpu != reader else { return nil }
      return isLater ? late : ""
    }
  }

  private static let readers = "readers"
  private static let late = ", on a vCPU made later"
  private static let everyReader = ["guest", "host"].flatMap { reader in
    [MSR.wallClockOld, MSR.wallClock].map { "the \(reader) through \(Hex($0))" }
  }

  static let wallZeroNop = Rule(
    "WALL-ZERO-NOP",
    "A write of 0 to a wall clock MSR writes nothing: neither at address 0 nor at the record before.",
    sources: [.x86("kvm_write_wall_clock()")],
    method:
      "Fill the first 256 bytes of guest memory with 0xa5, write 0 through both MSRs, on two vCPUs; the bytes there and "
      + "around the record before stay.",
    scenarios: [.wallMSR],
    coverage: [
      .observations(8, "looks around a write of 0"),
      .each(["address 0", "another place"], "looks at guest memory"),
    ]
  ) { timeline, findings in
    timeline.expectUntouchedMemory(&findings) { $0 == 0 }
  }

  static let wallUnbackedNoFault = Rule(
    "WALL-UNBACKED-NOFAULT",
    "A write of an address outside of guest RAM raises no fault and writes nothing; the guest goes on.",
    sources: [.x86("kvm_write_wall_clock() ignores the result of kvm_write_guest()")],
    method:
      "Write addresses from 2^45 to the last 4 bytes below 2^64; the record before and the first 256 bytes stay.",
    scenarios: [.wallMSR],
    coverage: [
      .observations(8, "looks around a write of an address without memory"),
      .each(["address 0", "another place"], "looks at guest memory"),
      .different(2, "addresses without memory"),
    ]
  ) { timeline, findings in
    timeline.expectUntouchedMemory(&findings) { value in
      // No scenario's machine has memory from there on.
      value >= 1 << 40
    }
  }
}

/// A write of a wall clock MSR, by a guest or by the host.
private struct WallMSRWrite {
  let value: Hex
  let event: Event
  /// The vCPU that wrote, or that the host's request named.
  let vcpu: Int?

  var isByHost: Bool { event.actor == .host }
}

extension Timeline {
  /// Compares readings of a wall clock MSR with the last value written on the same machine.
  ///
  /// - Parameter concerns: gets the write, the vCPU that reads, and whether that one was made after the write; it returns
  ///   an addition to the reader's name, or nil if the rule does not concern the reading.
  fileprivate func readWallMSRs(
    _ findings: inout Findings, _ concerns: (WallMSRWrite, Int, Bool) -> String?
  ) {
    for machine in machines {
      var last: WallMSRWrite?
      var madeLater: Set<Int> = []
      for step in machine.steps {
        if let (value, event) = step.machine.wallClock, event == step.event {
          (last, madeLater) = (WallMSRWrite(value: value, event: event, vcpu: step.vcpu), [])
        }
        switch (step.event.action, step.vcpu) {
        case (.vcpuCreated(let vcpu), _): madeLater.insert(vcpu)
        case (.readMSR(let msr, _, let fault?), _) where MSR.isWallClock(msr):
          findings.expect(
            false, at: [step.event], "no fault from a read of \(msr)",
            seen: "exception vector \(fault.vector)")
        case (.readMSR(let msr, let value, nil), let vcpu?),
          (.hostReadMSR(_, let msr, let value), let vcpu?):
          guard MSR.isWallClock(msr), let last,
            let kind = concerns(last, vcpu, madeLater.contains(vcpu))
          else { continue }
          let reader = "the \(step.isEntry ? "guest" : "host") through \(msr)"
          findings.cover(reader + kind, of: "readers")
          let writer =
            last.isByHost ? "the host" : last.vcpu.map { "vcpu\($0)" } ?? "nobody"
          findings.expect(
            value == last.value, at: [last.event, step.event],
            "\(last.value), the last value written, by \(writer)",
            seen: "\(value) read on vcpu\(vcpu) by \(reader)")
        default: continue
        }
      }
    }
  }

  /// A guest's write of the MSR with a value that `concerns` raises no fault and changes none of the memory that the host
  /// read before and after it.
  fileprivate func expectUntouchedMemory(
    _ findings: inout Findings, _ concerns: (UInt64) -> Bool
  ) {
    for machine in machines {
      var looks: [UInt64: (event: Event, bytes: [UInt8])] = [:]
      var write: (event: Event, value: Hex)?
      for step in machine.steps {
        let event = step.event
        switch event.action {
        case .filled, .poked: (looks, write) = ([:], nil)
        case .wroteMSR(let msr, let value, let fault) where MSR.isWallClock(msr):
          let isConcerned = concerns(value.value)
          write = isConcerned ? (event, value) : nil
          if !isConcerned { looks = [:] }
          if isConcerned, let fault {
            findings.expect(
              false, at: [event], "no fault from a write of \(value) to \(msr)",
              seen: "exception vector \(fault.vector)")
          }
        case .hostWroteMSR(_, let msr, _) where MSR.isWallClock(msr): (looks, write) = ([:], nil)
        case .memory(let address, let hex):
          if let write, let (before, bytes) = looks[address.value], bytes.count == hex.bytes.count,
            before.number < write.event.number
          {
            findings.cover(
              address.value == 0 ? "address 0" : "another place", of: "looks at guest memory")
            findings.cover(write.value.description, of: "addresses without memory")
            findings.expect(
              bytes == hex.bytes, at: [before, write.event, event],
              "the \(bytes.count) bytes at \(address) as they were before",
              seen: describeChange(bytes, hex.bytes, address.value))
          }
          looks[address.value] = (event, hex.bytes)
        default: continue
        }
      }
    }
  }
}

private func describeChange(_ old: [UInt8], _ new: [UInt8], _ start: UInt64) -> String {
  guard let at = zip(old, new).enumerated().first(where: { $1.0 != $1.1 })?.offset else {
    return "no change"
  }
  return "byte at \(Hex(start &+ UInt64(at))) went from \(Hex(UInt64(old[at]))) to "
    + "\(Hex(UInt64(new[at])))"
}

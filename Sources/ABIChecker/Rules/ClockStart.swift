internal import PVClock

extension Rule {
  static let clockZeroAtVMCreate = Rule(
    "CLOCK-ZERO-AT-VM-CREATE",
    "The clock counts from 0 at KVM_CREATE_VM: not from the host's boot, nor a vCPU's creation, nor a registration.",
    sources: [.x86("kvm_arch_init_vm(): kvmclock_offset = -get_kvmclock_base_ns()")],
    method:
      "KVM_GET_CLOCK and guests' readings in new VMs. Each value is the time since KVM_CREATE_VM.",
    scenarios: [.clockStart],
    coverage: [
      .observations(8, "values since KVM_CREATE_VM"),
      .each(
        ["KVM_GET_CLOCK without a vCPU", "KVM_GET_CLOCK with vCPUs", "a guest's reading"], "values"),
    ]
  ) { timeline, findings in
    for machine in timeline.machines {
      for step in machine.steps where step.machine.setting == nil {
        guard let created = step.machine.creation else { continue }
        for value in step.observations {
          let elapsed = created.elapsed(to: value.event)
          let slack = timeline.drift(until: value) + timeline.rounding
          let counts = findings.expect(
            Int128(value.value),
            in: Interval(max(0, elapsed.lower - slack), elapsed.upper + slack + value.lead),
            // KVM_CREATE_VM may take 30 ms. Where in it the clock starts is left open.
            limit: created.width + Timeline.widestUseful, at: [created, value.event], value.name,
            why: "the time that CLOCK_MONOTONIC_RAW counted since KVM_CREATE_VM")
          guard counts else { continue }
          findings.cover(
            value.vcpu != nil
              ? "a guest's reading"
              : "KVM_GET_CLOCK \(step.machine.vcpus > 0 ? "with vCPUs" : "without a vCPU")",
            of: "values")
        }
      }
    }
  }
}

public import ABIChecker
internal import Glibc
public import KVM
internal import Scenarios
internal import VMBuilder

/// What can go wrong with a guest, a thread or KVM itself under the harness. It must end in a verdict that says what it was, and
/// leave nothing behind that harms the next scenario.
public struct HarnessFault: Sendable {
  public let id: String
  public let meaning: String
  /// What the verdict's reason must say.
  public let says: String
  let sabotage: Sabotage
  let rule: String
  let isOnModel: Bool

  init(
    _ id: String, _ meaning: String, says: String, rule: String = "SYSTIME-ENABLE",
    isOnModel: Bool = false, _ sabotage: Sabotage
  ) {
    self.id = id
    self.meaning = meaning
    self.says = says
    self.sabotage = sabotage
    self.rule = rule
    self.isOnModel = isOnModel
  }
}

extension HarnessFault {
  public static let all: [HarnessFault] = guests + runs + errors

  private static let guests: [HarnessFault] = [
    // jmp .
    HarnessFault(
      "GUEST-HANGS", "an endless loop", says: "did not answer within",
      .guest(code: [0xeb, 0xfe])),
    // ud2
    HarnessFault(
      "GUEST-TRIPLE-FAULTS", "an exception without a handler", says: "shutdown",
      .guestWithoutHandlers(code: [0x0f, 0x0b])),
    // mov $0x4b564d01, %ecx; rdmsr; jmp
    HarnessFault(
      "GUEST-FLOODS-EXITS", "reads of an MSR without end, each of which comes to user space",
      says: "did not answer within", isOnModel: true,
      .guest(code: [0xb9, 0x01, 0x4d, 0x56, 0x4b, 0x0f, 0x32, 0xeb, 0xf7])),
    // out %al, $0x80
    HarnessFault(
      "GUEST-FOREIGN-PORT", "an OUT that is no doorbell", says: "OUT to port 0x80",
      .guest(code: [0xe6, 0x80])),
    // movl $99, 0x40(%rdi); out %al, $0x4b
    HarnessFault(
      "GUEST-NO-STATUS", "a status that does not exist", says: "99 is no status",
      .guest(code: [0xc7, 0x47, 0x40, 99, 0, 0, 0, 0xe6, 0x4b])),
    // movq $-1, 0x200(%rdi); movl $1, 0x40(%rdi); out %al, $0x4b: so many stretches of a trace.
    HarnessFault(
      "GUEST-LIES-ABOUT-LENGTHS", "a trace that is said to be 2^64 - 1 entries long",
      says: "", rule: "SYSTIME-REWRITE-STORM",
      .guest(
        .sampler,
        code: [
          0x48, 0xc7, 0x87, 0x00, 0x02, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x47, 0x40, 1, 0,
          0, 0, 0xe6, 0x4b,
        ])),
    // mov $-1, %eax; mov $0x20000, %edi; mov $0x4000, %ecx; rep stosl; out %al, $0x4b
    HarnessFault(
      "GUEST-WRITES-EVERYWHERE", "64 KiB of ones over tables, mailboxes and records",
      says: "is no status",
      .guest(code: [
        0xb8, 0xff, 0xff, 0xff, 0xff, 0xbf, 0x00, 0x00, 0x02, 0x00, 0xb9, 0x00, 0x40, 0x00, 0x00,
        0xf3, 0xab, 0xe6, 0x4b,
      ])),
  ]

  private static let runs: [HarnessFault] =
    [
      HarnessFault(
        "THREAD-DIES", "a vCPU's thread ends in the middle of a run", says: "did not come back",
        .threadDies),
      HarnessFault(
        "THREAD-STUCK", "a vCPU's thread that no kick brings back", says: "did not come back",
        .run { () throws(KVMError) in
          while true { sleep(3600) }
        }),
    ]
    + exits.map { exit in
      HarnessFault(
        "EXIT-\(exit.name)", "KVM_RUN ends with \(exit.exit)", says: "\(exit.exit)",
        .run { () throws(KVMError) in exit.exit })
    }

  private static let exits: [(name: String, exit: VCPUExit)] = [
    ("INTERNAL-ERROR", .internalError(suberror: 1)),
    ("INTERNAL-ERROR-3", .internalError(suberror: 3)),
    ("FAIL-ENTRY", .failEntry(reason: 0x8000_0021, cpu: 0)), ("SHUTDOWN", .shutdown),
    ("SYSTEM-EVENT", .systemEvent(type: 3)), ("HALT", .halt), ("DEBUG", .debug),
    ("UNKNOWN", .unsupported(4711)), ("MMIO", .mmioRead(address: 1 << 40, length: 4)),
    ("INTERRUPTED", .interrupted), ("IRQ-WINDOW", .interruptWindowOpen),
    ("RDMSR", .readMSR(index: 0x11, reason: 4)), ("IN", .in(port: 0x60, size: 1, count: 1)),
  ]

  /// A signal, memory that is not there, no memory, a wrong state, a VM that KVM has killed, and a number without a name.
  private static let errors: [HarnessFault] = [EINTR, EFAULT, ENOMEM, EINVAL, EIO, 4711].map {
    let error = KVMError(request: "KVM_RUN", errno: $0)
    return HarnessFault(
      "RUN-\(error.errnoName)", "KVM_RUN fails with \(error.errnoName)", says: "KVM_RUN failed",
      .run { () throws(KVMError) in throw error })
  }
}

extension FaultBench {
  /// Runs a rule's scenario with the fault, and once more without it in the same process.
  ///
  /// - Throws: `KVMError` if the device can't be used at all.
  public func run(_ fault: HarnessFault) throws(KVMError) -> HarnessResult {
    guard let rule = Rule.named(fault.rule) else { preconditionFailure("no rule \(fault.rule)") }
    var plan = RunPlan(rules: [rule], seed: seed, retries: 0, device: device)
    plan.clock = fault.isOnModel ? .model(facts) : nil
    plan.sabotage = fault.sabotage
    let outcome = try judge(rule, plan)
    plan.sabotage = nil
    let afterwards = try judge(rule, plan)
    return HarnessResult(
      id: fault.id, meaning: fault.meaning, says: fault.says, outcome: outcome,
      holdsAfterwards: afterwards.holds)
  }

  private func judge(_ rule: Rule, _ plan: RunPlan) throws(KVMError) -> Outcome {
    let histories = try Runner.record(
      rule.scenarios[0], plan, host: facts, cancellation: cancellation)
    return rule.verdict(on: histories.map(Timeline.init)).outcome
  }
}

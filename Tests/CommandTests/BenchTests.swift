import Foundation
import Testing

/// `run --host`, `policies` and `faults`.
@Suite(.enabled(if: Host.hasKVM, Host.reason), .serialized)
struct BenchTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  @Test func theModelServesTheRulesAndTheReportSaysSo() throws {
    let child = try Child(
      "\"$K\" run --host model 'SYSTIME-REWRITE-*' --seed 1 --output r.json && cat r.json",
      in: folder)
    child.expect(0)
    #expect(child.output.contains("clock: user-space model, policy keep"))
    #expect(child.output.contains("\"clock\" : \"user-space model, policy keep\""))
  }

  /// The breakage of 2015 on the kernel of today.
  @Test(arguments: [
    "SYSTIME-REWRITE-KEEPS-TIME", "REPLUG-VCPU0-KEEPS-TIME", "REWRITER-KEEPS-TIME",
  ])
  func interferenceIsCaught(rule: String) throws {
    let child = try Child("\"$K\" run --host interference \(rule)", in: folder)
    child.expect(1)
    #expect(child.output.contains("BROKEN        \(rule)"))
    #expect(child.output.contains("--host interference"))
  }

  @Test func policiesPrintsTheMatrixAndWritesIt() throws {
    let child = try Child("\"$K\" policies --host kernel --output m.json && cat m.json", in: folder)
    child.expect(0)
    #expect(child.output.contains("counts-from-zero-unless-old-msr"))
    #expect(child.output.contains("went back 72000"))
    #expect(child.output.contains("\"guests\""))
    try Child("\"$K\" policies --host interference", in: folder).expect(64, "model and kernel")
  }

  @Test func faultsTakesFaultsAndRulesAndRefusesOthers() throws {
    let child = try Child(
      "\"$K\" faults BYTES-33 VERSION-STEP GUEST-HANGS --output f.json", in: folder)
    child.expect(0)
    #expect(child.output.contains("caught    BYTES-33"))
    #expect(child.output.contains("caught    VERSION-OWN-COUNT"))
    #expect(child.output.contains("verdict   GUEST-HANGS"))
    try Child("grep -q '\"broke\"' f.json", in: folder).expect(0)
    try Child("\"$K\" faults NO-SUCH-THING", in: folder).expect(64, "no fault and no rule matches")
    try Child("\"$K\" faults BYTES-33 --output /no/such/folder/f", in: folder)
      .expect(74, "/no/such/folder")
  }

  @Test func aSignalEndsTheTableInGoodOrder() throws {
    let child = try Child(
      """
      "$K" faults >out & run=$!
      for i in $(seq 500); do [ -s out ] && break; sleep 0.02; done
      kill -INT $run; wait $run; code=$?; tail -1 out; exit $code
      """, in: folder)
    #expect(child.code == 130)
    #expect(child.output.contains("caught by every rule that must"))
  }
}

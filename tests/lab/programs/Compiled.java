// SPDX-License-Identifier: Apache-2.0

import java.security.MessageDigest;
import java.util.Arrays;
import java.util.HexFormat;

/** Loops that the JVM compiles for the CPU it found when it started, and goes on to compile. */
public final class Compiled {
    private static final String ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    private static long zeros(long seed) {
        long total = 0;
        for (int i = 0; i < 2000; i++) {
            long x = seed * 0x9e3779b97f4a7c15L >>> i % 64;
            total += Long.numberOfLeadingZeros(x) * 3L + Long.numberOfTrailingZeros(x);
        }
        return total;
    }

    private static long zerosByHand(long seed) {
        long total = 0;
        for (int i = 0; i < 2000; i++) {
            long x = seed * 0x9e3779b97f4a7c15L >>> i % 64;
            int lead = 0;
            int trail = 0;
            while (lead < 64 && (x >>> 63 - lead & 1) == 0)
                lead++;
            while (trail < 64 && (x >>> trail & 1) == 0)
                trail++;
            total += lead * 3L + trail;
        }
        return total;
    }

    public static void main(String[] arguments) throws Exception {
        int[] numbers = new int[4096];
        long expected = 0;
        for (int i = 0; i < numbers.length; i++) {
            numbers[i] = i * 7919 % 1009;
            expected += numbers[i];
        }
        for (long step = 1;; step++) {
            String verdict = "right";
            long sum = 0;
            for (int n : numbers)
                sum += n;
            if (sum != expected)
                verdict = "wrong sum " + sum;
            int[] copy = Arrays.copyOf(numbers, numbers.length);
            Arrays.sort(copy);
            for (int i = 1; i < copy.length; i++)
                if (copy[i - 1] > copy[i])
                    verdict = "wrong order at " + i;
            if (zeros(step) != zerosByHand(step))
                verdict = "wrong count of zeros";
            byte[] digest = MessageDigest.getInstance("SHA-256").digest("abc".getBytes("US-ASCII"));
            if (!HexFormat.of().formatHex(digest).equals(ABC))
                verdict = "wrong SHA-256 of abc";
            System.out.println("step " + step + " " + verdict);
            Thread.sleep(20);
        }
    }
}

(* -------------------------------------------------------------------------------------------------------------
   1. What the theorem says. Read this part, and part 4 with the network, the regions and the theorem.
   ------------------------------------------------------------------------------------------------------------- *)
From Coq Require Import Rbase Rbasic_fun QArith_base Qreals ZArith List Bool Lra Lia.
Import ListNotations.
Local Open Scope R_scope.

(* The sum of a0 * v0, a1 * v1, ...: as many as both lists have. *)
Fixpoint dot (a : list Z) (v : list R) : R :=
  match a, v with
  | c :: a', x :: v' => IZR c * x + dot a' v'
  | _, _ => 0
  end.

(* A line is one number, made from the numbers before it (the inputs first, then the lines in order):
   (constant + the weights times the numbers from number `first` on) / over, or 0 if that is negative and
   `rectified` is true. *)
Record line := Line { rectified : bool; over : positive; constant : Z; first : nat; weights : list Z }.

Definition relu (z : R) : R := Rmax 0 z.
Definition affine (l : line) (v : list R) : R :=
  (IZR (constant l) + dot (weights l) (skipn (first l) v)) / IZR (Zpos (over l)).
Definition value (l : line) (v : list R) : R := if rectified l then relu (affine l v) else affine l v.

(* The inputs and the values of all lines; the last lines are the outputs. *)
Definition values (lines : list line) (x : list R) : list R := fold_left (fun v l => v ++ [value l v]) lines x.
Definition outputs (lines : list line) (count : nat) (x : list R) : list R :=
  skipn (length x + length lines - count) (values lines x).

(* The sum of c * x_i + ... + d * y_j + ... compared with a threshold; closed, or strict. *)
Record atom := Atom { of_inputs : list (nat * Q); of_outputs : list (nat * Q); strict : bool; threshold : Q }.

Definition total (terms : list (nat * Q)) (v : list R) : R :=
  fold_right (fun t s => Q2R (snd t) * nth (fst t) v 0 + s) 0 terms.
Definition atom_holds (a : atom) (x y : list R) : Prop :=
  let left := total (of_inputs a) x + total (of_outputs a) y in
  if strict a then left < Q2R (threshold a) else left <= Q2R (threshold a).

(* A region is one interval an input; unsafe is a disjunction of conjunctions of atoms. *)
Definition in_region (region : list (Q * Q)) (x : list R) : Prop :=
  Forall2 (fun ends xi => Q2R (fst ends) <= xi <= Q2R (snd ends)) region x.
Definition unsafe (condition : list (list atom)) (x y : list R) : Prop :=
  Exists (fun atoms => Forall (fun a => atom_holds a x y) atoms) condition.

(* -------------------------------------------------------------------------------------------------------------
   2. A checker over integers. Nothing here need be read or trusted: part 3 proves it sound.
   Values are in units of 1 / grid; lists of values are newest first.
   ------------------------------------------------------------------------------------------------------------- *)
(* `shift` is the logarithm of `den` to the base 2, or -1; `tilt` is u / (u - l) in units of 1 / 1024, for the rule. *)
Record row := Row { bent : bool; den : positive; cst : Z; gap : nat; cof : list Z; shift : Z; tilt : Z }.
Definition part := list (row * (Z * Z)).
Definition ends := list (Z * Z).
Record zatom := ZAtom { open : bool; kappa : Z; mu : list Z }.

Fixpoint axpy (s : Z) (a m : list Z) : list Z :=
  match a, m with
  | c :: a', y :: m' => (s * c + y)%Z :: axpy s a' m'
  | c :: a', [] => (s * c)%Z :: axpy s a' []
  | [], _ => m
  end.
Fixpoint accrue (k : nat) (s : Z) (a m : list Z) : list Z :=
  match k, m with
  | O, _ => axpy s a m
  | S k', y :: m' => y :: accrue k' s a m'
  | S k', [] => 0%Z :: accrue k' s a []
  end.

(* What to pass on. Any choice is sound. *)
Definition divided (r : row) (m : Z) (more : Z) : Z :=
  if (shift r <? 0)%Z then (m / (Zpos (den r) * 2 ^ more))%Z else Z.shiftr m (shift r + more).
Definition rule (r : row) (l u m : Z) : Z :=
  if negb (bent r) || (0 <=? l)%Z then divided r m 0
  else if (u <=? 0)%Z then 0%Z
  else if (m <? 0)%Z then divided r (tilt r * m) 10
  else if (- l <? u)%Z then divided r m 0 else 0%Z.
Definition tilted (r : row) (b : Z * Z) : row * (Z * Z) :=
  let (l, u) := b in
  let t := if bent r && (l <? 0)%Z && (0 <? u)%Z then (1024 * u / (u - l))%Z else 0%Z in
  (Row (bent r) (den r) (cst r) (gap r) (cof r) (shift r) t, b).

(* The least of m * f(z) - lam * den * z for l <= z <= u. *)
Definition residue (r : row) (l u m lam : Z) : Z :=
  let slope := (lam * Zpos (den r))%Z in
  let rest := (m - slope)%Z in
  if negb (bent r) || (0 <=? l)%Z then (if (0 <=? rest)%Z then l * rest else u * rest)%Z
  else if (u <=? 0)%Z then (if (0 <=? slope)%Z then - (u * slope) else - (l * slope))%Z
  else Z.min (if (0 <=? slope)%Z then 0 else - (l * slope))%Z (if (0 <=? rest)%Z then 0 else u * rest)%Z.

Fixpoint edge (box : ends) (m : list Z) : Z :=
  match box, m with
  | (l, u) :: box', c :: m' => (c * (if (0 <=? c)%Z then l else u) + edge box' m')%Z
  | _, _ => 0%Z
  end.

(* A lower bound of grid times the sum of multipliers m times values; hints are what is passed on at each line. *)
Fixpoint lower (grid : Z) (box : ends) (ps : part) (hints m : list Z) : Z :=
  match ps with
  | [] => edge box m
  | (r, (l, u)) :: ps' =>
      let c := hd 0%Z m in
      let lam := match hints with h :: _ => h | [] => if (c =? 0)%Z then 0%Z else rule r l u c end in
      if (c =? 0)%Z && (lam =? 0)%Z then lower grid box ps' (tl hints) (tl m)
      else (residue r l u c lam + grid * lam * cst r +
            lower grid box ps' (tl hints) (accrue (gap r) lam (cof r) (tl m)))%Z
  end.

(* Multipliers are in units of 1 / scale, before a line divides by its `den`. *)
Definition unit_of (scale : Z) (r : row) : Z := Z.max 1 (scale / Zpos (den r)).
Definition bound_below (grid scale : Z) (box : ends) (ps : part) (r : row) : Z :=
  let unit := unit_of scale r in
  ((lower grid box ps [] (accrue (gap r) unit (cof r) []) + grid * unit * cst r) / (Zpos (den r) * unit))%Z.
Definition bound_above (grid scale : Z) (box : ends) (ps : part) (r : row) : Z :=
  let unit := unit_of scale r in
  (- ((lower grid box ps [] (accrue (gap r) (- unit) (cof r) []) - grid * unit * cst r) / (Zpos (den r) * unit)))%Z.

Fixpoint start (grid scale : Z) (box : ends) (rows : list row) : part :=
  match rows with
  | [] => []
  | r :: rows' => let ps := start grid scale box rows' in
                  tilted r (bound_below grid scale box ps r, bound_above grid scale box ps r) :: ps
  end.
Fixpoint sweep (grid scale : Z) (box : ends) (ps : part) : part :=
  match ps with
  | [] => []
  | (r, (l, u)) :: ps' =>
      let qs := sweep grid scale box ps' in
      if bent r && (l <? 0)%Z && (0 <? u)%Z
      then let low := Z.max l (bound_below grid scale box qs r) in
           if (0 <=? low)%Z then tilted r (low, u) :: qs
           else tilted r (low, Z.min u (bound_above grid scale box qs r)) :: qs
      else (r, (l, u)) :: qs
  end.

Fixpoint below (j : nat) (p : Z) (box : ends) : ends :=
  match j, box with
  | O, (l, u) :: box' => (l, Z.min u p) :: box'
  | S j', b :: box' => b :: below j' p box'
  | _, [] => []
  end.
Fixpoint above (j : nat) (p : Z) (box : ends) : ends :=
  match j, box with
  | O, (l, u) :: box' => (Z.max l p, u) :: box'
  | S j', b :: box' => b :: above j' p box'
  | _, [] => []
  end.
Definition clip (f : nat -> Z -> ends -> ends) (j : nat) (p : Z) (ps : part) : part :=
  combine (map fst ps) (f j p (map snd ps)).

Fixpoint mixed (nus : list Z) (atoms : list zatom) : zatom :=
  match nus, atoms with
  | n :: nus', a :: atoms' =>
      let rest := mixed nus' atoms' in
      ZAtom ((open a && (0 <? n)%Z) || open rest) (n * kappa a + kappa rest) (axpy n (mu a) (mu rest))
  | _, _ => ZAtom false 0 []
  end.
Definition refuted (grid : Z) (box : ends) (ps : part) (atoms : list zatom) (nus hints : list Z) : bool :=
  let whole := mixed nus atoms in
  let found := (lower grid box ps hints (mu whole) + grid * kappa whole)%Z in
  forallb (fun n => (0 <=? n)%Z) nus && ((0 <? found)%Z || (open whole && (found =? 0)%Z)).

Inductive tree :=
  | Halve (i : nat) (p : Z) (a b : tree)  (* input i, the newest first, below and above p *)
  | Cut (j : nat) (p : Z) (a b : tree)  (* what enters line j, the newest first, below and above p *)
  | Sweep (a : tree)  (* bound all lines again *)
  | Share (mask : list bool) (a b : tree)  (* some disjuncts here, the others there *)
  | Refute (rows : list (option (list Z * list Z))) (a : tree)  (* a disjunct a row: multipliers and hints *)
  | Void  (* no point has these bounds *)
  | Done.  (* no disjunct is left *)

Fixpoint chosen {A : Type} (which : bool) (mask : list bool) (all : list A) : list A :=
  match all with
  | [] => []
  | d :: all' => match mask with
                 | m :: mask' => if Bool.eqb m which then d :: chosen which mask' all' else chosen which mask' all'
                 | [] => d :: all'
                 end
  end.
Fixpoint left_over (grid : Z) (box : ends) (ps : part) (rows : list (option (list Z * list Z)))
    (todo : list (list zatom)) : list (list zatom) :=
  match rows, todo with
  | Some (nus, hints) :: rows', d :: todo' =>
      let rest := left_over grid box ps rows' todo' in
      if refuted grid box ps d nus hints then rest else d :: rest
  | None :: rows', d :: todo' => d :: left_over grid box ps rows' todo'
  | _, _ => todo
  end.

Fixpoint check (grid scale : Z) (t : tree) (box : ends) (ps : part) (todo : list (list zatom)) : bool :=
  match t with
  | Halve i p a b => check grid scale a (below i p box) ps todo && check grid scale b (above i p box) ps todo
  | Cut j p a b => check grid scale a box (clip below j p ps) todo && check grid scale b box (clip above j p ps) todo
  | Sweep a => check grid scale a box (sweep grid scale box ps) todo
  | Share mask a b => check grid scale a box ps (chosen true mask todo) && check grid scale b box ps (chosen false mask todo)
  | Refute rows a => check grid scale a box ps (left_over grid box ps rows todo)
  | Void => existsb (fun b => (snd b <? fst b)%Z) (box ++ map snd ps)
  | Done => match todo with [] => true | _ => false end
  end.

(* From what part 1 speaks of to integers. *)
Definition exponent (d : positive) : Z := let k := Z.log2 (Zpos d) in if (2 ^ k =? Zpos d)%Z then k else (-1)%Z.
Fixpoint to_rows (before : nat) (lines : list line) (done : list row) : option (list row) :=
  match lines with
  | [] => Some done
  | l :: lines' =>
      let width := length (weights l) in
      if (first l + width <=? before)%nat
      then to_rows (S before) lines'
             (Row (rectified l) (over l) (constant l) (before - first l - width) (rev (weights l)) (exponent (over l)) 0
              :: done)
      else None
  end.
Definition to_ends (grid : Z) (region : list (Q * Q)) : ends :=
  rev (map (fun b => (Qnum (fst b) * grid / Zpos (Qden (fst b)), - (- Qnum (snd b) * grid / Zpos (Qden (snd b))))%Z)
           region).

Definition common (terms : list (nat * Q)) (d : Z) : Z := fold_right (fun t => Z.lcm (Zpos (Qden (snd t)))) d terms.
Definition times (d : Z) (q : Q) : Z := (Qnum q * (d / Zpos (Qden q)))%Z.
Definition divides (d : Z) (q : Q) : bool := (d mod Zpos (Qden q) =? 0)%Z.
Fixpoint dense (size shift : nat) (d : Z) (terms : list (nat * Q)) (m : list Z) : option (list Z) :=
  match terms with
  | [] => Some m
  | (i, q) :: terms' =>
      if (shift + i <? size)%nat && divides d q
      then dense size shift d terms' (accrue (size - 1 - (shift + i)) 1 [times d q] m)
      else None
  end.
Definition to_zatom (inputs size count : nat) (a : atom) : option zatom :=
  let d := common (of_inputs a) (common (of_outputs a) (Zpos (Qden (threshold a)))) in
  if forallb (fun t => fst t <? inputs)%nat (of_inputs a) && forallb (fun t => fst t <? count)%nat (of_outputs a)
     && divides d (threshold a) && (0 <? d)%Z then
    match dense size 0 d (of_inputs a) [] with
    | Some m => match dense size (size - count) d (of_outputs a) m with
                | Some m' => Some (ZAtom (strict a) (- times d (threshold a)) m')
                | None => None
                end
    | None => None
    end
  else None.
Fixpoint every {A B : Type} (f : A -> option B) (l : list A) : option (list B) :=
  match l with
  | [] => Some []
  | x :: l' => match f x, every f l' with Some y, Some r => Some (y :: r) | _, _ => None end
  end.

Record case := Case { region : list (Q * Q); condition : list (list atom) }.

Definition check_case (grid scale : Z) (lines : list line) (count : nat) (c : case) (t : tree) : bool :=
  let inputs := length (region c) in
  let size := (inputs + length lines)%nat in
  let box := to_ends grid (region c) in
  (0 <? grid)%Z && (count <=? length lines)%nat &&
  match to_rows inputs lines [], every (every (to_zatom inputs size count)) (condition c) with
  | Some rows, Some todo => check grid scale t box (start grid scale box rows) todo
  | _, _ => false
  end.

Fixpoint check_cases (grid scale : Z) (lines : list line) (count : nat) (cases : list case) (trees : list tree) : bool :=
  match cases, trees with
  | [], [] => true
  | c :: cases', t :: trees' => check_case grid scale lines count c t && check_cases grid scale lines count cases' trees'
  | _, _ => false
  end.

(* -------------------------------------------------------------------------------------------------------------
   3. The checker is sound.
   ------------------------------------------------------------------------------------------------------------- *)
Lemma dot_nil a : dot a [] = 0.
Proof. destruct a; reflexivity. Qed.

Lemma dot_axpy s a : forall m v, dot (axpy s a m) v = IZR s * dot a v + dot m v.
Proof.
  induction a as [|c a IH]; intros m v; simpl; [lra|].
  destruct m as [|y m], v as [|x v]; simpl; try (rewrite IH); rewrite ?plus_IZR, ?mult_IZR, ?dot_nil; simpl; lra.
Qed.

Lemma dot_accrue k s a : forall m v, dot (accrue k s a m) v = IZR s * dot a (skipn k v) + dot m v.
Proof.
  induction k as [|k IH]; intros m v; [apply dot_axpy|].
  destruct m as [|y m], v as [|x v]; simpl; rewrite ?dot_nil; try rewrite IH; simpl; lra.
Qed.

(* What the numbers are, and that they are within the bounds. *)
Definition within (grid : Z) (b : Z * Z) (z : R) : Prop := IZR (fst b) <= IZR grid * z <= IZR (snd b).
Definition entering (r : row) (v : list R) : R := (IZR (cst r) + dot (cof r) (skipn (gap r) v)) / IZR (Zpos (den r)).
Definition leaving (r : row) (z : R) : R := if bent r then relu z else z.

Fixpoint runs (rows : list row) (P : list R -> Prop) (v : list R) : Prop :=
  match rows, v with
  | [], _ => P v
  | r :: rows', y :: v' => y = leaving r (entering r v') /\ runs rows' P v'
  | _ :: _, [] => False
  end.
Fixpoint holds (grid : Z) (box : ends) (ps : part) (v : list R) : Prop :=
  match ps, v with
  | [], _ => Forall2 (within grid) box v
  | (r, b) :: ps', y :: v' =>
      y = leaving r (entering r v') /\ within grid b (entering r v') /\ holds grid box ps' v'
  | _ :: _, [] => False
  end.

Lemma den_positive r : 0 < IZR (Zpos (den r)).
Proof. apply IZR_lt. reflexivity. Qed.

Lemma IZR_max a b : IZR (Z.max a b) = Rmax (IZR a) (IZR b).
Proof.
  destruct (Z.max_spec a b) as [[H ->]|[H ->]].
  - apply IZR_lt in H. rewrite Rmax_right; lra.
  - apply IZR_le in H. rewrite Rmax_left; lra.
Qed.
Lemma IZR_min a b : IZR (Z.min a b) = Rmin (IZR a) (IZR b).
Proof.
  destruct (Z.min_spec a b) as [[H ->]|[H ->]].
  - apply IZR_lt in H. rewrite Rmin_left; lra.
  - apply IZR_le in H. rewrite Rmin_right; lra.
Qed.

(* A linear function on an interval is least at an end. *)
Lemma least (k l u : Z) y : IZR l <= y <= IZR u -> IZR (if (0 <=? k)%Z then l * k else u * k) <= IZR k * y.
Proof.
  intros [Hl Hu]. destruct (Z.leb_spec 0 k) as [H|H]; rewrite mult_IZR.
  - apply IZR_le in H. assert (0 <= IZR k * (y - IZR l)) by (apply Rmult_le_pos; lra). lra.
  - apply IZR_lt in H. assert (0 <= - IZR k * (IZR u - y)) by (apply Rmult_le_pos; lra). lra.
Qed.

Lemma residue_sound grid r l u m lam z : (0 < grid)%Z -> within grid (l, u) z ->
  IZR (residue r l u m lam) <= IZR grid * (IZR m * leaving r z) - IZR grid * (IZR lam * IZR (Zpos (den r)) * z).
Proof.
  intros Hg [Hl Hu]. simpl in Hl, Hu. apply IZR_lt in Hg. unfold residue.
  set (slope := (lam * Zpos (den r))%Z). set (rest := (m - slope)%Z).
  assert (Es : IZR lam * IZR (Zpos (den r)) = IZR slope) by (unfold slope; rewrite mult_IZR; reflexivity).
  assert (Em : IZR m = IZR slope + IZR rest) by (unfold rest; rewrite minus_IZR; lra).
  rewrite Es, Em. clearbody slope rest. clear Es Em.
  assert (E : IZR grid * leaving r z = if bent r then Rmax 0 (IZR grid * z) else IZR grid * z).
  { unfold leaving, relu. destruct (bent r); [|reflexivity]. rewrite <- RmaxRmult, Rmult_0_r by lra. reflexivity. }
  replace (IZR grid * ((IZR slope + IZR rest) * leaving r z) - IZR grid * (IZR slope * z))
    with ((IZR slope + IZR rest) * (IZR grid * leaving r z) - IZR slope * (IZR grid * z)) by ring.
  rewrite E; clear E. generalize dependent (IZR grid * z). clear z. intros y Hl Hu.
  assert (Active : (bent r = false \/ 0 <= y) -> (if bent r then Rmax 0 y else y) = y).
  { intros [B|P]; [rewrite B; reflexivity|]. destruct (bent r); [apply Rmax_right; exact P|reflexivity]. }
  destruct (negb (bent r) || (0 <=? l)%Z) eqn:A.
  - rewrite Active.
    + pose proof (least rest l u y (conj Hl Hu)). lra.
    + apply orb_prop in A. destruct A as [A|A]; [left; destruct (bent r); trivial; discriminate|right].
      apply Z.leb_le, IZR_le in A. lra.
  - apply orb_false_elim in A. destruct A as [B A]. destruct (bent r); [|discriminate].
    destruct (Z.leb_spec u 0) as [U|U].
    + apply IZR_le in U. rewrite Rmax_left by lra.
      destruct (Z.leb_spec 0 slope) as [S|S]; [apply IZR_le in S|apply IZR_lt in S]; rewrite opp_IZR, mult_IZR.
      * assert (0 <= IZR slope * (IZR u - y)) by (apply Rmult_le_pos; lra). lra.
      * assert (0 <= - IZR slope * (y - IZR l)) by (apply Rmult_le_pos; lra). lra.
    + apply IZR_lt in U. apply Z.leb_gt, IZR_lt in A. rewrite IZR_min. destruct (Rle_lt_dec 0 y) as [Y|Y].
      * rewrite Rmax_right by lra. eapply Rle_trans; [apply Rmin_r|].
        destruct (Z.leb_spec 0 rest) as [S|S]; [apply IZR_le in S|apply IZR_lt in S; rewrite mult_IZR].
        -- assert (0 <= IZR rest * y) by (apply Rmult_le_pos; lra). lra.
        -- assert (0 <= - IZR rest * (IZR u - y)) by (apply Rmult_le_pos; lra). lra.
      * rewrite Rmax_left by lra. eapply Rle_trans; [apply Rmin_l|].
        destruct (Z.leb_spec 0 slope) as [S|S]; [apply IZR_le in S|apply IZR_lt in S; rewrite opp_IZR, mult_IZR].
        -- assert (0 <= IZR slope * - y) by (apply Rmult_le_pos; lra). lra.
        -- assert (0 <= - IZR slope * (y - IZR l)) by (apply Rmult_le_pos; lra). lra.
Qed.

Lemma edge_sound grid box : forall m v, Forall2 (within grid) box v -> IZR (edge box m) <= IZR grid * dot m v.
Proof.
  induction box as [|[l u] box IH]; intros m v H; inversion H as [|? y ? v' [Hl Hu] Hv]; subst.
  - destruct m; simpl; lra.
  - destruct m as [|c m]; simpl; [lra|]. specialize (IH m v' Hv). simpl in Hl, Hu.
    rewrite plus_IZR, mult_IZR. destruct (Z.leb_spec 0 c) as [Hc|Hc].
    + apply IZR_le in Hc. assert (0 <= IZR c * (IZR grid * y - IZR l)) by (apply Rmult_le_pos; lra). lra.
    + apply IZR_lt in Hc. assert (0 <= (- IZR c) * (IZR u - IZR grid * y)) by (apply Rmult_le_pos; lra). lra.
Qed.

Lemma entering_over r v : IZR (Zpos (den r)) * entering r v = IZR (cst r) + dot (cof r) (skipn (gap r) v).
Proof. unfold entering. pose proof (den_positive r). field. lra. Qed.

Lemma dot_head m y v : dot m (y :: v) = IZR (hd 0%Z m) * y + dot (tl m) v.
Proof. destruct m; simpl; lra. Qed.

Lemma lower_sound grid box : (0 < grid)%Z -> forall ps hints m v,
  holds grid box ps v -> IZR (lower grid box ps hints m) <= IZR grid * dot m v.
Proof.
  intros Hg. induction ps as [|[r [l u]] ps IH]; intros hints m v H.
  - apply edge_sound. exact H.
  - destruct v as [|y v]; [destruct H|].
    destruct H as (Hy & Hw & Hr). rewrite dot_head. simpl.
    generalize (hd 0%Z m) (tl m). clear m. intros c m.
    set (lam := match hints with h :: _ => h | [] => if (c =? 0)%Z then 0%Z else rule r l u c end). clearbody lam.
    destruct ((c =? 0)%Z && (lam =? 0)%Z) eqn:E.
    + apply andb_prop in E. destruct E as [E _]. apply Z.eqb_eq in E. subst c.
      specialize (IH (tl hints) m v Hr). lra.
    + specialize (IH (tl hints) (accrue (gap r) lam (cof r) m) v Hr).
      rewrite dot_accrue in IH.
      pose proof (residue_sound grid r l u c lam (entering r v) Hg Hw) as Hres.
      rewrite <- Hy in Hres. pose proof (entering_over r v) as Ho.
      rewrite !plus_IZR, !mult_IZR.
      replace (IZR lam * IZR (Zpos (den r)) * entering r v)
        with (IZR lam * (IZR (cst r) + dot (cof r) (skipn (gap r) v))) in Hres by (rewrite <- Ho; ring).
      lra.
Qed.

Lemma div_below a b (y : R) : (0 < b)%Z -> IZR a <= IZR b * y -> IZR (a / b) <= y.
Proof.
  intros Hb H. pose proof (Z.mul_div_le a b Hb) as M. apply IZR_le in M. rewrite mult_IZR in M.
  apply IZR_lt in Hb. apply Rmult_le_reg_l with (IZR b); lra.
Qed.

Lemma bounds_sound grid scale box ps r v : (0 < grid)%Z -> holds grid box ps v ->
  within grid (bound_below grid scale box ps r, bound_above grid scale box ps r) (entering r v).
Proof.
  intros Hg H. pose proof (entering_over r v) as Ho. unfold within, bound_below, bound_above; cbn [fst snd].
  set (unit := unit_of scale r). assert (Hu : (0 < unit)%Z) by (unfold unit, unit_of; lia). clearbody unit.
  assert (0 < Zpos (den r) * unit)%Z as Hp by lia.
  assert (E : IZR unit * IZR grid * (IZR (Zpos (den r)) * entering r v)
              = IZR unit * IZR grid * (IZR (cst r) + dot (cof r) (skipn (gap r) v))) by (rewrite Ho; reflexivity).
  split; [|rewrite opp_IZR; apply Ropp_le_cancel; rewrite Ropp_involutive]; apply div_below; try exact Hp.
  - pose proof (lower_sound grid box Hg ps [] (accrue (gap r) unit (cof r) []) v H) as L.
    rewrite dot_accrue in L. rewrite plus_IZR, !mult_IZR. simpl in L. lra.
  - pose proof (lower_sound grid box Hg ps [] (accrue (gap r) (- unit) (cof r) []) v H) as L.
    rewrite dot_accrue, opp_IZR in L. rewrite minus_IZR, !mult_IZR. simpl in L. lra.
Qed.

Lemma holds_tilted grid box ps r b y v : y = leaving r (entering r v) -> within grid b (entering r v) ->
  holds grid box ps v -> holds grid box (tilted r b :: ps) (y :: v).
Proof. intros Hy Hw H. destruct b. exact (conj Hy (conj Hw H)). Qed.

Lemma start_sound grid scale box : (0 < grid)%Z -> forall rows v,
  runs rows (Forall2 (within grid) box) v -> holds grid box (start grid scale box rows) v.
Proof.
  intros Hg. induction rows as [|r rows IH]; intros v H; [exact H|].
  destruct v as [|y v]; [destruct H|]. destruct H as [Hy H].
  specialize (IH v H). cbn [start]. apply holds_tilted; [exact Hy|apply bounds_sound|]; assumption.
Qed.

Lemma sweep_sound grid scale box : (0 < grid)%Z -> forall ps v,
  holds grid box ps v -> holds grid box (sweep grid scale box ps) v.
Proof.
  intros Hg. induction ps as [|[r [l u]] ps IH]; intros v H; [exact H|].
  destruct v as [|y v]; [destruct H|]. destruct H as (Hy & Hw & H). specialize (IH v H).
  pose proof (bounds_sound grid scale box (sweep grid scale box ps) r v Hg IH) as [Hlo Hhi].
  destruct Hw as [Hl Hr]. cbn [fst snd] in *. cbn [sweep]. cbv zeta.
  destruct (bent r && (l <? 0)%Z && (0 <? u)%Z).
  - assert (IZR (Z.max l (bound_below grid scale box (sweep grid scale box ps) r)) <= IZR grid * entering r v)
      by (rewrite IZR_max; apply Rmax_lub; assumption).
    destruct (0 <=? _)%Z; (apply holds_tilted; [exact Hy|split; cbn [fst snd]|exact IH]); try assumption.
    rewrite IZR_min. apply Rmin_glb; assumption.
  - split; [exact Hy|]. split; [split; simpl|exact IH]; assumption.
Qed.

(* Both halves together are the whole. *)
Lemma halves grid j p : (0 < grid)%Z -> forall box v, Forall2 (within grid) box v ->
  Forall2 (within grid) (below j p box) v \/ Forall2 (within grid) (above j p box) v.
Proof.
  intros Hg. induction j as [|j IH]; intros box v H; inversion H as [|[l u] y box' v' [Hl Hu] Hv]; subst; simpl;
    try (left; constructor; fail).
  - simpl in *. destruct (Rle_lt_dec (IZR grid * y) (IZR p)); [left|right]; constructor; try assumption;
      split; simpl; try assumption; rewrite ?IZR_min, ?IZR_max; [apply Rmin_glb|apply Rmax_lub]; lra.
  - destruct (IH box' v' Hv); [left|right]; constructor; try assumption; split; assumption.
Qed.

Lemma holds_box grid box box' : forall ps v, holds grid box ps v ->
  Forall2 (within grid) box (skipn (length ps) v) /\
  (Forall2 (within grid) box' (skipn (length ps) v) -> holds grid box' ps v).
Proof.
  induction ps as [|[r b] ps IH]; intros v H; simpl.
  - split; [exact H|intros G; exact G].
  - destruct v as [|y v]; [destruct H|]. destruct H as (Hy & Hw & H). destruct (IH v H) as [Ha Hb].
    split; [exact Ha|]. intros G. split; [exact Hy|]. split; [exact Hw|apply Hb; exact G].
Qed.

Lemma halve_sound grid box ps j p v : (0 < grid)%Z -> holds grid box ps v ->
  holds grid (below j p box) ps v \/ holds grid (above j p box) ps v.
Proof.
  intros Hg H. destruct (holds_box grid box [] ps v H) as [Hb _].
  destruct (halves grid j p Hg box _ Hb); [left|right]; eapply holds_box; eassumption.
Qed.

Lemma clip_same f (ps : part) : f (map snd ps) = map snd ps -> combine (map fst ps) (f (map snd ps)) = ps.
Proof.
  intros ->. induction ps as [|[r b] ps IH]; [reflexivity|]. simpl. f_equal. exact IH.
Qed.
Lemma pairs_back (ps : part) : combine (map fst ps) (map snd ps) = ps.
Proof. induction ps as [|[r b] ps IH]; [reflexivity|]. simpl. f_equal. exact IH. Qed.

Lemma cut_sound grid box j p : (0 < grid)%Z -> forall ps v, holds grid box ps v ->
  holds grid box (clip below j p ps) v \/ holds grid box (clip above j p ps) v.
Proof.
  intros Hg. unfold clip. induction j as [|j IH]; intros ps v H; destruct ps as [|[r [l u]] ps]; try (left; exact H);
    destruct v as [|y v]; try destruct H; destruct H0 as [[Hl Hu] H0]; simpl in *.
  - rewrite pairs_back. destruct (Rle_lt_dec (IZR grid * entering r v) (IZR p)); [left|right];
      (split; [exact H|]; split; [split; simpl|exact H0]); try assumption;
      rewrite ?IZR_min, ?IZR_max; [apply Rmin_glb|apply Rmax_lub]; lra.
  - destruct (IH ps v H0); [left|right]; (split; [exact H|]; split; [split; simpl; assumption|assumption]).
Qed.

(* Atoms, and what refutes a conjunction of them. *)
Definition true_of (v : list R) (a : zatom) : Prop :=
  if open a then dot (mu a) v + IZR (kappa a) < 0 else dot (mu a) v + IZR (kappa a) <= 0.

Lemma mixed_sound v : forall nus atoms, forallb (fun n => (0 <=? n)%Z) nus = true -> Forall (true_of v) atoms ->
  true_of v (mixed nus atoms).
Proof.
  induction nus as [|n nus IH]; intros atoms Hn H.
  - unfold true_of. simpl. lra.
  - destruct atoms as [|a atoms]; [unfold true_of; simpl; lra|].
    simpl in Hn. apply andb_prop in Hn. destruct Hn as [Hn Hns]. apply Z.leb_le, IZR_le in Hn.
    inversion H as [|? ? Ha Hs]; subst. specialize (IH atoms Hns Hs). simpl.
    unfold true_of in *. simpl. rewrite dot_axpy, plus_IZR, mult_IZR.
    set (S := dot (mu a) v) in *. set (K := IZR (kappa a)) in *.
    assert (Hle : dot (mu (mixed nus atoms)) v + IZR (kappa (mixed nus atoms)) <= 0)
      by (destruct (open (mixed nus atoms)); lra).
    assert (Ale : S + K <= 0) by (destruct (open a); lra).
    assert (Mle : IZR n * (S + K) <= 0).
    { assert (0 <= IZR n * - (S + K)) by (apply Rmult_le_pos; lra). lra. }
    destruct (open a); simpl.
    + destruct (Z.ltb_spec 0 n) as [Hp|Hp]; simpl.
      * apply IZR_lt in Hp. assert (0 < IZR n * - (S + K)) by (apply Rmult_lt_0_compat; lra). lra.
      * destruct (open (mixed nus atoms)); lra.
    + destruct (open (mixed nus atoms)); lra.
Qed.

Lemma refuted_sound grid box ps atoms nus hints v : (0 < grid)%Z -> holds grid box ps v ->
  refuted grid box ps atoms nus hints = true -> ~ Forall (true_of v) atoms.
Proof.
  intros Hg H R A. unfold refuted in R. apply andb_prop in R. destruct R as [Hn R].
  pose proof (mixed_sound v nus atoms Hn A) as T. set (w := mixed nus atoms) in *. clearbody w.
  pose proof (lower_sound grid box Hg ps hints (mu w) v H) as L. unfold true_of in T.
  apply IZR_lt in Hg. apply orb_prop in R.
  assert (B : IZR (lower grid box ps hints (mu w) + grid * kappa w) <= IZR grid * (dot (mu w) v + IZR (kappa w)))
    by (rewrite plus_IZR, mult_IZR; lra).
  destruct R as [R|R].
  - apply Z.ltb_lt, IZR_lt in R.
    assert (0 <= IZR grid * - (dot (mu w) v + IZR (kappa w)))
      by (apply Rmult_le_pos; [lra|destruct (open w); lra]). lra.
  - apply andb_prop in R. destruct R as [Ro R]. rewrite Ro in T. apply Z.eqb_eq in R. rewrite R in B.
    assert (0 < IZR grid * - (dot (mu w) v + IZR (kappa w))) by (apply Rmult_lt_0_compat; lra). lra.
Qed.

Definition bad (v : list R) (todo : list (list zatom)) : Prop := Exists (Forall (true_of v)) todo.

Lemma chosen_sound v : forall todo mask, bad v todo -> bad v (chosen true mask todo) \/ bad v (chosen false mask todo).
Proof.
  induction todo as [|d todo IH]; intros mask H; [inversion H|].
  destruct mask as [|[|] mask]; simpl; [left; exact H| |]; inversion H as [? ? Hd|? ? Hs]; subst.
  - left. apply Exists_cons_hd. exact Hd.
  - destruct (IH mask Hs); [left; apply Exists_cons_tl|right]; assumption.
  - right. apply Exists_cons_hd. exact Hd.
  - destruct (IH mask Hs); [left|right; apply Exists_cons_tl]; assumption.
Qed.

Lemma left_over_sound grid box ps v : (0 < grid)%Z -> holds grid box ps v -> forall rows todo,
  bad v todo -> bad v (left_over grid box ps rows todo).
Proof.
  intros Hg H. induction rows as [|row rows IH]; intros todo B; [exact B|].
  destruct todo as [|d todo]; [destruct row as [[? ?]|]; exact B|].
  destruct row as [[nus hints]|]; simpl.
  - destruct (refuted grid box ps d nus hints) eqn:E.
    + inversion B as [? ? Hd|? ? Hs]; subst; [|apply IH; exact Hs].
      destruct (refuted_sound grid box ps d nus hints v Hg H E Hd).
    + inversion B as [? ? Hd|? ? Hs]; subst; [apply Exists_cons_hd; exact Hd|apply Exists_cons_tl, IH; exact Hs].
  - inversion B as [? ? Hd|? ? Hs]; subst; [apply Exists_cons_hd; exact Hd|apply Exists_cons_tl, IH; exact Hs].
Qed.

Lemma void_sound grid box : forall ps v, holds grid box ps v ->
  existsb (fun b => (snd b <? fst b)%Z) (box ++ map snd ps) = true -> False.
Proof.
  assert (W : forall b z, within grid b z -> (snd b <? fst b)%Z = false).
  { intros b z [Hl Hu]. apply Z.ltb_ge. apply le_IZR. lra. }
  intros ps v H E. rewrite existsb_app in E. apply orb_prop in E. destruct E as [E|E].
  - destruct (holds_box grid box [] ps v H) as [Hb _]. generalize dependent (skipn (length ps) v). clear H ps v.
    induction box as [|b box IH]; intros v Hb; [discriminate|]. inversion Hb as [|? ? ? ? Hw Hv]; subst.
    simpl in E. rewrite (W _ _ Hw) in E. exact (IH E _ Hv).
  - generalize dependent v. induction ps as [|[r b] ps IH]; intros v H; [discriminate|].
    destruct v as [|y v]; [destruct H|]. destruct H as (Hy & Hw & H).
    simpl in E. rewrite (W _ _ Hw) in E. exact (IH E _ H).
Qed.

Lemma check_sound grid scale : (0 < grid)%Z -> forall t box ps todo v,
  check grid scale t box ps todo = true -> holds grid box ps v -> ~ bad v todo.
Proof.
  intros Hg. induction t as [i p a IHa b IHb|j p a IHa b IHb|a IHa|mask a IHa b IHb|rows a IHa| |];
    intros box ps todo v C H B; simpl in C; try (apply andb_prop in C; destruct C as [Ca Cb]).
  - destruct (halve_sound grid box ps i p v Hg H); [eapply IHa|eapply IHb]; eassumption.
  - destruct (cut_sound grid box j p Hg ps v H); [eapply IHa|eapply IHb]; eassumption.
  - eapply IHa; [exact C|apply sweep_sound|]; eassumption.
  - destruct (chosen_sound v todo mask B); [eapply IHa|eapply IHb]; eassumption.
  - eapply IHa; [exact C|exact H|apply left_over_sound; eassumption].
  - exact (void_sound grid box ps v H C).
  - destruct todo; [inversion B|discriminate].
Qed.

(* From the numbers as part 1 has them, oldest first, to the newest first. *)
Lemma dot_app a : forall b u v, length a = length u -> dot (a ++ b) (u ++ v) = dot a u + dot b v.
Proof.
  induction a as [|c a IH]; intros b u v E; destruct u as [|x u]; try discriminate; simpl; [lra|].
  rewrite IH by (injection E; trivial). lra.
Qed.
Lemma dot_short a : forall v w, (length a <= length v)%nat -> dot a (v ++ w) = dot a v.
Proof.
  induction a as [|c a IH]; intros v w E; [reflexivity|]. destruct v as [|x v]; simpl in *; [lia|].
  rewrite IH by lia. reflexivity.
Qed.
Lemma dot_rev a : forall v, length a = length v -> dot (rev a) (rev v) = dot a v.
Proof.
  induction a as [|c a IH]; intros v E; destruct v as [|x v]; try discriminate; [reflexivity|].
  injection E as E. simpl. rewrite dot_app by (rewrite !rev_length; exact E). rewrite IH by exact E. simpl. lra.
Qed.
Lemma dot_turned a k v : (k + length a <= length v)%nat ->
  dot (rev a) (skipn (length v - k - length a) (rev v)) = dot a (skipn k v).
Proof.
  intros H.
  pose proof (firstn_skipn k v) as E1. pose proof (firstn_skipn (length a) (skipn k v)) as E2.
  set (p := firstn k v) in *. set (s := firstn (length a) (skipn k v)) in *.
  set (q := skipn (length a) (skipn k v)) in *.
  assert (Ls : length s = length a) by (unfold s; apply firstn_length_le; rewrite skipn_length; lia).
  assert (Lq : (length v - k - length a)%nat = length (rev q)).
  { rewrite rev_length. unfold q. rewrite !skipn_length. reflexivity. }
  rewrite Lq. replace (rev v) with (rev q ++ (rev s ++ rev p)).
  - rewrite skipn_app, skipn_all, Nat.sub_diag. simpl.
    rewrite dot_short by (rewrite !rev_length; lia). rewrite dot_rev by lia.
    rewrite <- E2. rewrite dot_short by lia. reflexivity.
  - rewrite <- E1, <- E2. rewrite !rev_app_distr, app_assoc. reflexivity.
Qed.

Lemma values_length lines : forall v, length (values lines v) = (length v + length lines)%nat.
Proof.
  induction lines as [|l lines IH]; intros v; simpl; [lia|].
  change (fold_left _ lines ?w) with (values lines w). rewrite IH, app_length. simpl. lia.
Qed.

Lemma to_rows_sound P : forall lines done v rows, runs done P (rev v) -> to_rows (length v) lines done = Some rows ->
  runs rows P (rev (values lines v)).
Proof.
  induction lines as [|l lines IH]; intros done v rows H E; simpl in E.
  - injection E as E. subst. exact H.
  - destruct (Nat.leb_spec (first l + length (weights l)) (length v)) as [Hw|]; [|discriminate].
    simpl. change (fold_left _ lines ?w) with (values lines w).
    eapply IH; [|rewrite app_length; simpl; rewrite Nat.add_1_r; exact E].
    rewrite rev_app_distr. simpl. split; [|exact H].
    unfold value, leaving, affine, entering. simpl. rewrite dot_turned by exact Hw. reflexivity.
Qed.

Lemma Q2R_num q : Q2R q = IZR (Qnum q) / IZR (Zpos (Qden q)).
Proof. reflexivity. Qed.

Lemma turned {A B : Type} (P : A -> B -> Prop) a b : Forall2 P a b -> Forall2 P (rev a) (rev b).
Proof.
  intros H. induction H as [|x y a b Hx H IH]; simpl; [constructor|].
  apply Forall2_app; [exact IH|constructor; [exact Hx|constructor]].
Qed.

Lemma to_ends_sound grid reg x : (0 < grid)%Z -> in_region reg x -> Forall2 (within grid) (to_ends grid reg) (rev x).
Proof.
  intros Hg H. unfold to_ends. apply turned. induction H as [|[lo hi] y reg x [Hl Hu] H IH]; simpl; constructor.
  - simpl in *. apply IZR_lt in Hg. rewrite Q2R_num in Hl, Hu. unfold within; simpl.
    assert (Pl : 0 < IZR (Zpos (Qden lo))) by (apply IZR_lt; reflexivity).
    assert (Ph : 0 < IZR (Zpos (Qden hi))) by (apply IZR_lt; reflexivity).
    apply (Rmult_le_compat_l (IZR (Zpos (Qden lo)))) in Hl; [|lra].
    apply (Rmult_le_compat_l (IZR (Zpos (Qden hi)))) in Hu; [|lra].
    replace (IZR (Zpos (Qden lo)) * (IZR (Qnum lo) / IZR (Zpos (Qden lo)))) with (IZR (Qnum lo)) in Hl by (field; lra).
    replace (IZR (Zpos (Qden hi)) * (IZR (Qnum hi) / IZR (Zpos (Qden hi)))) with (IZR (Qnum hi)) in Hu by (field; lra).
    apply (Rmult_le_compat_l (IZR grid)) in Hl; [|lra]. apply (Rmult_le_compat_l (IZR grid)) in Hu; [|lra].
    split.
    + apply div_below; [reflexivity|]. rewrite mult_IZR. lra.
    + rewrite opp_IZR. apply Ropp_le_cancel. rewrite Ropp_involutive. apply div_below; [reflexivity|].
      rewrite mult_IZR, opp_IZR. lra.
  - exact IH.
Qed.

Lemma times_sound d q : divides d q = true -> IZR (times d q) = IZR d * Q2R q.
Proof.
  unfold divides, times. intros H. apply Z.eqb_eq in H. rewrite Q2R_num.
  pose proof (Z.div_mod d (Zpos (Qden q)) ltac:(discriminate)) as E. rewrite H, Z.add_0_r in E.
  assert (P : 0 < IZR (Zpos (Qden q))) by (apply IZR_lt; reflexivity).
  rewrite E at 2. rewrite !mult_IZR. field. lra.
Qed.

Lemma nth_one i : forall v, dot [1%Z] (skipn i v) = nth i v 0.
Proof. induction i as [|i IH]; intros [|x v]; simpl; try lra. apply IH. Qed.
Lemma dot_scaled c v : dot [c] v = IZR c * dot [1%Z] v.
Proof. destruct v; simpl; lra. Qed.

Lemma dense_sound size shift d v : length v = size -> forall terms m m', dense size shift d terms m = Some m' ->
  dot m' (rev v) = dot m (rev v) + IZR d * total terms (skipn shift v).
Proof.
  intros L. induction terms as [|[i q] terms IH]; intros m m' E; simpl in E.
  - injection E as E. subst. simpl. lra.
  - destruct (Nat.ltb_spec (shift + i) size) as [Hi|]; [|discriminate].
    destruct (divides d q) eqn:D; [|discriminate]. simpl in E. apply IH in E. rewrite E, dot_accrue, dot_scaled.
    rewrite nth_one, rev_nth by lia. rewrite (times_sound d q D). simpl.
    replace (length v - S (size - 1 - (shift + i)))%nat with (shift + i)%nat by lia.
    assert (N : nth i (skipn shift v) 0 = nth (shift + i) v 0).
    { rewrite <- (firstn_skipn shift v) at 2. rewrite app_nth2; rewrite firstn_length_le; try lia. f_equal. lia. }
    rewrite N. lra.
Qed.

Lemma total_app terms n x y : length x = n -> forallb (fun t => fst t <? n)%nat terms = true ->
  total terms (x ++ y) = total terms x.
Proof.
  intros L. induction terms as [|[i q] terms IH]; intros H; [reflexivity|]. simpl in *.
  apply andb_prop in H. destruct H as [Hi H]. apply Nat.ltb_lt in Hi. rewrite IH by exact H.
  rewrite app_nth1 by lia. reflexivity.
Qed.

Lemma values_start lines : forall x, exists y, values lines x = x ++ y.
Proof.
  induction lines as [|l lines IH]; intros x; [exists []; symmetry; apply app_nil_r|].
  destruct (IH (x ++ [value l x])) as [y E]. exists (value l x :: y). simpl.
  change (fold_left _ lines ?w) with (values lines w). rewrite E, <- app_assoc. reflexivity.
Qed.

Lemma to_zatom_sound lines count a z x : (count <= length lines)%nat ->
  to_zatom (length x) (length x + length lines) count a = Some z ->
  atom_holds a x (outputs lines count x) -> true_of (rev (values lines x)) z.
Proof.
  unfold to_zatom. set (d := common _ _). clearbody d. intros Hc E A.
  destruct (forallb _ (of_inputs a)) eqn:Hi; [|discriminate].
  destruct (forallb _ (of_outputs a)) eqn:Ho; [|discriminate].
  destruct (divides d (threshold a)) eqn:Ht; [|discriminate].
  destruct (Z.ltb_spec 0 d) as [Hd|]; [|discriminate]. simpl in E.
  destruct (dense _ 0 d (of_inputs a) []) as [m|] eqn:E1; [|discriminate].
  destruct (dense _ _ d (of_outputs a) m) as [m'|] eqn:E2; [|discriminate].
  injection E as E. subst z.
  pose proof (values_length lines x) as L.
  apply (dense_sound _ _ d (values lines x) L) in E1. apply (dense_sound _ _ d (values lines x) L) in E2.
  unfold true_of; simpl. rewrite E2, E1, opp_IZR, (times_sound d _ Ht). simpl.
  destruct (values_start lines x) as [y Ey].
  assert (I : total (of_inputs a) (values lines x) = total (of_inputs a) x)
    by (rewrite Ey; exact (total_app _ (length x) x y eq_refl Hi)).
  rewrite I.
  unfold atom_holds, outputs in A. apply IZR_lt in Hd.
  set (S := total (of_inputs a) x) in *. set (T := total (of_outputs a) _) in *. set (B := Q2R (threshold a)) in *.
  destruct (strict a).
  - assert (0 < IZR d * (B - (S + T))) by (apply Rmult_lt_0_compat; lra). lra.
  - assert (0 <= IZR d * (B - (S + T))) by (apply Rmult_le_pos; lra). lra.
Qed.

Lemma every_Forall {A B} (f : A -> option B) (P : A -> Prop) (Q : B -> Prop) :
  (forall a b, f a = Some b -> P a -> Q b) -> forall l r, every f l = Some r -> Forall P l -> Forall Q r.
Proof.
  intros H. induction l as [|a l IH]; intros r E F; simpl in E.
  - injection E as E. subst. constructor.
  - destruct (f a) as [b|] eqn:Ea; [|discriminate]. destruct (every f l) as [r'|] eqn:El; [|discriminate].
    injection E as E. subst. inversion F; subst. constructor; [eapply H; eassumption|apply IH; trivial].
Qed.
Lemma every_Exists {A B} (f : A -> option B) (P : A -> Prop) (Q : B -> Prop) :
  (forall a b, f a = Some b -> P a -> Q b) -> forall l r, every f l = Some r -> Exists P l -> Exists Q r.
Proof.
  intros H. induction l as [|a l IH]; intros r E F; simpl in E; [inversion F|].
  destruct (f a) as [b|] eqn:Ea; [|discriminate]. destruct (every f l) as [r'|] eqn:El; [|discriminate].
  injection E as E. subst. inversion F; subst; [apply Exists_cons_hd; eapply H; eassumption|].
  apply Exists_cons_tl, IH; trivial.
Qed.

Lemma region_length reg x : in_region reg x -> length reg = length x.
Proof. intros H. induction H as [|? ? ? ? _ _ IH]; simpl; congruence. Qed.

Lemma check_case_sound grid scale lines count c t : check_case grid scale lines count c t = true ->
  forall x, in_region (region c) x -> ~ unsafe (condition c) x (outputs lines count x).
Proof.
  unfold check_case. intros C x Hx U.
  assert (Lx : length (region c) = length x) by (apply region_length; exact Hx). rewrite Lx in C.
  apply andb_prop in C. destruct C as [C K]. apply andb_prop in C. destruct C as [Hg Hc].
  apply Z.ltb_lt in Hg. apply Nat.leb_le in Hc.
  destruct (to_rows (length x) lines []) as [rows|] eqn:Er; [|discriminate].
  destruct (every _ (condition c)) as [todo|] eqn:Et; [|discriminate].
  refine (check_sound grid scale Hg t _ _ todo (rev (values lines x)) K _ _).
  - apply start_sound; try assumption. eapply to_rows_sound; [|exact Er]. simpl. apply to_ends_sound; assumption.
  - unfold bad, unsafe in *. eapply every_Exists; [|exact Et|exact U]. intros d zs Ed. simpl.
    eapply every_Forall; [|exact Ed]. intros a z Ea. apply to_zatom_sound; assumption.
Qed.

Theorem checked grid scale lines count : forall cases trees, check_cases grid scale lines count cases trees = true ->
  forall c, In c cases -> forall x, in_region (region c) x -> ~ unsafe (condition c) x (outputs lines count x).
Proof.
  induction cases as [|c cases IH]; intros trees C d Hd; [destruct Hd|].
  destruct trees as [|t trees]; [discriminate|]. simpl in C. apply andb_prop in C. destruct C as [Ca Cb].
  destruct Hd as [->|Hd]; [eapply check_case_sound; exact Ca|eapply IH; eassumption].
Qed.
